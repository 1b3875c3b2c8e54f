# SPDX-License-Identifier: BSL-1.0
# cmake -D BUILD=... -D SOURCE=... -D PREFIX=... -P install.cmake
# Installs into an empty prefix, checks that nothing installed remembers where it was built, and
# moves it all to PREFIX: whoever uses it there shows that it may be moved.
set(first "${PREFIX}-first")
file(REMOVE_RECURSE "${PREFIX}" "${first}")
execute_process(
  COMMAND "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${first}"
  COMMAND_ERROR_IS_FATAL ANY)

file(GLOB_RECURSE texts "${first}/*.cmake" "${first}/*.pc")
if(NOT texts)
  message(FATAL_ERROR "no package files in ${first}")
endif()
foreach(text IN LISTS texts)
  file(READ "${text}" content)
  foreach(place IN ITEMS "${SOURCE}" "${BUILD}" "${first}")
    string(FIND "${content}" "${place}" at)
    if(NOT at EQUAL -1)
      message(FATAL_ERROR "${text} contains the absolute path ${place}")
    endif()
  endforeach()
endforeach()

file(GLOB_RECURSE licences "${first}/*/licenses/tidegate/LICENSE")
if(NOT licences)
  message(FATAL_ERROR "no licence was installed")
endif()
file(RENAME "${first}" "${PREFIX}")
