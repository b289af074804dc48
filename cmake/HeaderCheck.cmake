# SPDX-License-Identifier: Apache-2.0
# Every public header compiles on its own: *.h as C and as C++, *.hpp as C++, *.bpf.h as BPF.
if(NOT CTD_HEADER_CHECK)
  return()
endif()

set(root ${PROJECT_SOURCE_DIR}/include)
file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${root} ${root}/ctd/*.h ${root}/ctd/*.hpp)
set(units)
set(stamps)
foreach(header IN LISTS headers)
  string(MAKE_C_IDENTIFIER ${header} id)
  set(unit ${PROJECT_BINARY_DIR}/header_check/${id})
  set(line "#include <${header}>\n")
  if(header MATCHES "\\.bpf\\.h$")
    file(CONFIGURE OUTPUT ${unit}.bpf.c CONTENT "${line}")
    add_custom_command(OUTPUT ${unit}.bpf.o
      COMMAND ${CTD_CCACHE} ${CTD_BPF_CLANG} ${CTD_BPF_FLAGS} -MD -MF ${unit}.d -MT ${unit}.bpf.o
              -c ${unit}.bpf.c -o ${unit}.bpf.o
      DEPENDS ${unit}.bpf.c
      DEPFILE ${unit}.d
      COMMENT "Checking <${header}> alone (BPF)"
      VERBATIM)
    list(APPEND stamps ${unit}.bpf.o)
    continue()
  endif()
  # Twice in a row: the include guard is checked as well.
  file(CONFIGURE OUTPUT ${unit}.cpp CONTENT "${line}${line}")
  list(APPEND units ${unit}.cpp)
  if(header MATCHES "\\.h$")
    file(CONFIGURE OUTPUT ${unit}.c CONTENT "${line}${line}")
    list(APPEND units ${unit}.c)
  endif()
endforeach()

add_custom_target(header_check ALL DEPENDS ${stamps})
if(units)
  add_library(header_check_units OBJECT ${units})
  target_include_directories(header_check_units PRIVATE ${root})
  target_link_libraries(header_check_units PRIVATE dep::libbpf dep::fmt)
  target_compile_options(header_check_units PRIVATE ${CTD_WARNINGS} -Werror)
  add_dependencies(header_check header_check_units)
endif()
