# SPDX-License-Identifier: BSL-1.0
# What every program of this project shares: warnings as errors for our own code only, and sanitizers.

add_library(tidegate_house INTERFACE)
if(MSVC)
  target_compile_options(tidegate_house INTERFACE /W4 /WX /bigobj)
else()
  target_compile_options(tidegate_house INTERFACE
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
    -Wno-error=deprecated-declarations) # a newer Boost deprecates what ours has nothing instead of
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # Warns of std::string's and std::optional's own code (GCC bugs 105329 and 80635), and of
    # coroutines whose operator new is a template, as that of Asio's is (109224).
    target_compile_options(tidegate_house INTERFACE
      -Wno-restrict -Wno-maybe-uninitialized -Wno-mismatched-new-delete)
  endif()
endif()

if(TIDEGATE_SANITIZE STREQUAL "address")
  set(sanitizer_flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(TIDEGATE_SANITIZE STREQUAL "thread")
  set(sanitizer_flags -fsanitize=thread)
elseif(TIDEGATE_SANITIZE STREQUAL "fuzzer") # which brings a main() to every program
  set(sanitizer_flags -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(TIDEGATE_SANITIZE)
  message(FATAL_ERROR "TIDEGATE_SANITIZE is '${TIDEGATE_SANITIZE}'; allowed: address, thread, fuzzer or empty")
endif()
if(sanitizer_flags)
  target_compile_options(tidegate_house INTERFACE ${sanitizer_flags})
  target_link_options(tidegate_house INTERFACE ${sanitizer_flags})
endif()
