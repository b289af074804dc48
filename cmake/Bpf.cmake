# SPDX-License-Identifier: Apache-2.0
# BPF objects by clang, embedded into the binaries by way of libbpf skeletons.

find_program(CTD_BPF_CLANG clang-19 REQUIRED)
find_program(CTD_BPF_STRIP llvm-strip-19 REQUIRED)
find_program(CTD_BPFTOOL bpftool PATHS /usr/sbin /sbin REQUIRED)

# See mem_barrier() in bpf/host/bpf.h.
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  set(CTD_BPF_ORDER -DCTD_STRONG_ORDER)
endif()

set(CTD_GEN_DIR ${PROJECT_BINARY_DIR}/gen)
file(MAKE_DIRECTORY ${CTD_GEN_DIR})

set(CTD_BPF_FLAGS
  -target bpf -mcpu=v3 -O2 -g -std=gnu17
  -Wall -Wextra -Wno-missing-field-initializers -Werror=return-type -Werror
  -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR}/bpf ${CTD_BPF_ORDER}
  # <asm/types.h> lives in the multiarch folder, which clang does not search for this target.
  -idirafter /usr/include/${CMAKE_LIBRARY_ARCHITECTURE})

# ctd_bpf_skeletons(NAME SOURCES...): gen/<file>.skel.h with struct <file>_bpf for every <file>.bpf.c, as
# target NAME; link NAME_headers to include them. Depfiles make an edit of any included header rebuild.
function(ctd_bpf_skeletons name)
  set(skeletons)
  foreach(source IN LISTS ARGN)
    cmake_path(GET source FILENAME file)
    string(REGEX REPLACE "\\.bpf\\.c$" "" stem ${file})
    set(object ${CTD_GEN_DIR}/${stem}.bpf.o)
    set(skeleton ${CTD_GEN_DIR}/${stem}.skel.h)
    # Run in the source folder: the same command line for all presets, so that ccache can share.
    add_custom_command(OUTPUT ${object}
      COMMAND ${CTD_CCACHE} ${CTD_BPF_CLANG} ${CTD_BPF_FLAGS} -MD -MF ${object}.d -MT ${object}
              -c ${source} -o ${object}
      DEPENDS ${source}
      DEPFILE ${object}.d
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      COMMENT "Building BPF object ${stem}.bpf.o"
      VERBATIM)
    # The skeleton embeds the object: strip DWARF (BTF stays). Written aside first, so that a failure leaves no half file.
    add_custom_command(OUTPUT ${skeleton}
      COMMAND ${CTD_BPF_STRIP} -g -o ${object}.stripped ${object}
      COMMAND sh -c "'${CTD_BPFTOOL}' gen skeleton '${object}.stripped' name '${stem}_bpf' > '${skeleton}.tmp'"
      COMMAND ${CMAKE_COMMAND} -E rename ${skeleton}.tmp ${skeleton}
      DEPENDS ${object}
      COMMENT "Generating ${stem}.skel.h"
      VERBATIM)
    list(APPEND skeletons ${skeleton})
  endforeach()
  add_custom_target(${name} ALL DEPENDS ${skeletons})
  add_library(${name}_headers INTERFACE)
  target_include_directories(${name}_headers SYSTEM INTERFACE ${CTD_GEN_DIR})
  target_link_libraries(${name}_headers INTERFACE dep::libbpf)
  add_dependencies(${name}_headers ${name})
endfunction()
