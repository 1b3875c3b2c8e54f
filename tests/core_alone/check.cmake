# SPDX-License-Identifier: BSL-1.0
# cmake -D COMPILER=... -D INCLUDE=... -P check.cmake
# Compiles each INCLUDE/tidegate/core/*.hpp with only INCLUDE on the include path, and reads which
# files that took: a Boost on the compiler's own path does not go unnoticed either.
file(GLOB_RECURSE headers "${INCLUDE}/tidegate/core/*.hpp")
foreach(header IN LISTS headers)
  execute_process(
    COMMAND "${COMPILER}" -std=c++20 -fsyntax-only -MD -MF - -I "${INCLUDE}" -include "${header}" -x c++ -
    INPUT_FILE /dev/null
    OUTPUT_VARIABLE files
    COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "${INCLUDE}/tidegate/" "" files "${files}")
  if(files MATCHES "[^ ]*/(boost|fmt)/[^ \n]*")
    message(FATAL_ERROR "${header} reaches ${CMAKE_MATCH_0}")
  endif()
endforeach()
list(LENGTH headers count)
message(STATUS "${count} headers stand alone")
