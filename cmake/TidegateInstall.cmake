# SPDX-License-Identifier: BSL-1.0
# Installs both targets, the CMake package and the pkg-config files, all free of absolute paths.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/tidegate")

get_target_property(header_sets tidegate INTERFACE_HEADER_SETS)
list(TRANSFORM header_sets PREPEND "FILE_SET;")
set(installed_targets tidegate tidegate_compiled)
if(TARGET tidegate_blocking_guard)
  list(APPEND installed_targets tidegate_blocking_guard)
endif()
install(TARGETS ${installed_targets} EXPORT tidegate ${header_sets})
install(EXPORT tidegate
  NAMESPACE tidegate::
  FILE tidegateTargets.cmake
  DESTINATION "${package_dir}")
# A component of its own, since it needs OpenSSL.
if(TIDEGATE_REDIS)
  install(TARGETS tidegate_redis EXPORT tidegateRedis FILE_SET HEADERS)
  install(EXPORT tidegateRedis
    NAMESPACE tidegate::
    FILE tidegateRedisTargets.cmake
    DESTINATION "${package_dir}")
endif()
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

# pkg-config finds the prefix from where the .pc file lies. Appending an absolute install folder to
# the prefix gives that folder.
file(RELATIVE_PATH pc_to_prefix "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
set(pc_prefix "\${pcfiledir}")
set(pc_includedir "\${prefix}")
set(pc_libdir "\${prefix}")
cmake_path(APPEND pc_prefix "${pc_to_prefix}")
cmake_path(APPEND pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
cmake_path(APPEND pc_libdir "${CMAKE_INSTALL_LIBDIR}")
foreach(pc IN ITEMS tidegate tidegate-compiled)
  configure_file("${PROJECT_SOURCE_DIR}/cmake/${pc}.pc.in" "${PROJECT_BINARY_DIR}/${pc}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/${pc}.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endforeach()

install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/tidegate")
