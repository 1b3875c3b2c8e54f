# SPDX-License-Identifier: BSL-1.0
# cmake -D BUILD=... -D SOURCE=... -D PREFIX=... -P install.cmake
# Installs into an empty prefix, and checks that nothing installed remembers where it was built.
file(REMOVE_RECURSE "${PREFIX}")
execute_process(
  COMMAND "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${PREFIX}"
  COMMAND_ERROR_IS_FATAL ANY)

file(GLOB_RECURSE texts "${PREFIX}/*.cmake" "${PREFIX}/*.pc")
if(NOT texts)
  message(FATAL_ERROR "no package files in ${PREFIX}")
endif()
foreach(text IN LISTS texts)
  file(READ "${text}" content)
  foreach(place IN ITEMS "${SOURCE}" "${BUILD}" "${PREFIX}")
    string(FIND "${content}" "${place}" at)
    if(NOT at EQUAL -1)
      message(FATAL_ERROR "${text} contains the absolute path ${place}")
    endif()
  endforeach()
endforeach()
