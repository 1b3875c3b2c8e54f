# SPDX-License-Identifier: BSL-1.0
# Installs both targets, the CMake package and the pkg-config files, all free of absolute paths.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/tidegate")

install(TARGETS tidegate tidegate_compiled EXPORT tidegate FILE_SET HEADERS)
# Left out of the header set because it needs fmt, which only its users have.
if(EXISTS "${PROJECT_SOURCE_DIR}/include/tidegate/fmt.hpp")
  install(FILES "${PROJECT_SOURCE_DIR}/include/tidegate/fmt.hpp"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/tidegate")
endif()

install(EXPORT tidegate
  NAMESPACE tidegate::
  FILE tidegateTargets.cmake
  DESTINATION "${package_dir}")
configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/tidegateConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/tidegateConfig.cmake"
  INSTALL_DESTINATION "${package_dir}"
  NO_SET_AND_CHECK_MACRO)
# Minor versions may break the API while the major version is 0. Not ARCH_INDEPENDENT: the package
# carries a compiled library.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/tidegateConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/tidegateConfig.cmake"
  "${PROJECT_BINARY_DIR}/tidegateConfigVersion.cmake"
  DESTINATION "${package_dir}")

# pkg-config finds the prefix from where the .pc file lies, unless an install folder was given as an
# absolute path, which then stands as it is.
cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_LIBDIR BASE_DIRECTORY "/prefix" OUTPUT_VARIABLE pc_dir)
cmake_path(APPEND pc_dir pkgconfig)
cmake_path(RELATIVE_PATH pc_dir BASE_DIRECTORY "/prefix" OUTPUT_VARIABLE pc_dir_in_prefix)
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
  cmake_path(SET pc_prefix "/prefix")
  cmake_path(RELATIVE_PATH pc_prefix BASE_DIRECTORY "${pc_dir}")
  set(pc_prefix "\${pcfiledir}/${pc_prefix}")
endif()
