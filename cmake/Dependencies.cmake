# SPDX-License-Identifier: Apache-2.0
# Libraries, all from Debian (scripts/deps.sh). pkg-config where a package's macros are part of its
# ABI (cpp-httplib, spdlog); imported include folders are SYSTEM, so their headers do not warn.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

foreach(package IN ITEMS
    libbpf nlohmann_json fmt spdlog CLI11 cpp-httplib libnl-3.0 libnl-route-3.0 libsystemd prometheus-cpp-core)
  string(REGEX REPLACE "[^A-Za-z0-9]" "_" prefix "CTD_${package}")
  pkg_check_modules(${prefix} REQUIRED QUIET IMPORTED_TARGET GLOBAL ${package})
  add_library(dep::${package} ALIAS PkgConfig::${prefix})
endforeach()

if(CTD_TESTS)
  find_package(GTest REQUIRED)
endif()
if(CTD_BENCH)
  find_package(benchmark REQUIRED)
endif()
