# SPDX-License-Identifier: Apache-2.0
# Language standards, warnings, sanitizers and ccache for everything that runs in userspace.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_EXTENSIONS ON) # the BPF core uses statement expressions and typeof
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(CTD_CCACHE ccache)
if(CTD_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CTD_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CTD_CCACHE})
endif()

# Designated initialisers name what differs from zero; the rest is meant to be zero.
set(CTD_WARNINGS -Wall -Wextra -Wshadow -Wno-missing-field-initializers -Werror=return-type)
# Signed/unsigned conversion is left out: too much noise where library APIs use int for sizes.
set(CTD_CONVERSION_WARNINGS -Wconversion -Wno-sign-conversion)
if(CTD_WERROR)
  list(APPEND CTD_WARNINGS -Werror)
endif()

if(CTD_FUZZ AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "CTD_FUZZ needs clang (use the preset fuzz), but the compiler is ${CMAKE_CXX_COMPILER_ID}")
endif()
if(CTD_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(CTD_SANITIZE)
  add_compile_options(-fsanitize=${CTD_SANITIZE} -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${CTD_SANITIZE})
endif()

# ctd_static_library(NAME SOURCES...): a static library with our warnings. A folder that has
# no source yet gives an empty interface library, so that the tree configures at any stage.
function(ctd_static_library name)
  if(ARGN)
    add_library(${name} STATIC ${ARGN})
    target_compile_options(${name} PRIVATE ${CTD_WARNINGS})
  else()
    add_library(${name} INTERFACE)
  endif()
endfunction()

# ctd_use(NAME [INCLUDE DIRS...] [LINK LIBS...]): usage requirements of NAME, also where it is empty.
function(ctd_use name)
  cmake_parse_arguments(arg "" "" "INCLUDE;LINK" ${ARGN})
  get_target_property(type ${name} TYPE)
  set(scope PUBLIC)
  if(type STREQUAL "INTERFACE_LIBRARY")
    set(scope INTERFACE)
  endif()
  target_include_directories(${name} ${scope} ${arg_INCLUDE})
  target_link_libraries(${name} ${scope} ${arg_LINK})
endfunction()
