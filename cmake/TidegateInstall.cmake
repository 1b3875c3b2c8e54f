# SPDX-License-Identifier: BSL-1.0
# Installs the library with its components, the CMake package and the pkg-config files, all free of
# absolute paths.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/tidegate")

get_target_property(header_sets tidegate INTERFACE_HEADER_SETS)
list(TRANSFORM header_sets PREPEND "FILE_SET;")
install(TARGETS tidegate EXPORT tidegate ${header_sets})
install(EXPORT tidegate
  NAMESPACE tidegate::
  FILE tidegateTargets.cmake
  DESTINATION "${package_dir}")

# install_component(NAME TARGET...): what only find_package(tidegate COMPONENTS NAME) makes, so that
# nobody needs what he did not ask for.
function(install_component name)
  set(there "")
  foreach(target IN LISTS ARGN)
    if(TARGET ${target})
      list(APPEND there ${target})
    endif()
  endforeach()
  if(there)
    install(TARGETS ${there} EXPORT tidegate-${name} FILE_SET HEADERS)
    install(EXPORT tidegate-${name}
      NAMESPACE tidegate::
      FILE tidegate-${name}.cmake
      DESTINATION "${package_dir}")
  endif()
endfunction()
install_component(compiled tidegate_compiled)
install_component(redis tidegate_redis)
install_component(testing tidegate_testing tidegate_blocking_guard)

configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/tidegateConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/tidegateConfig.cmake"
  INSTALL_DESTINATION "${package_dir}"
  NO_SET_AND_CHECK_MACRO)
# Minor versions may break the API while the major version is 0.
set(any_architecture ARCH_INDEPENDENT)
if(TIDEGATE_COMPILED OR TIDEGATE_REDIS)
  set(any_architecture "")
endif()
write_basic_package_version_file("${PROJECT_BINARY_DIR}/tidegateConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion ${any_architecture})
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
set(pc_files tidegate)
if(TIDEGATE_COMPILED)
  list(APPEND pc_files tidegate-compiled)
endif()
if(TIDEGATE_REDIS)
  list(APPEND pc_files tidegate-redis)
endif()
foreach(pc IN LISTS pc_files)
  configure_file("${PROJECT_SOURCE_DIR}/cmake/${pc}.pc.in" "${PROJECT_BINARY_DIR}/${pc}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/${pc}.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endforeach()

install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/tidegate")
