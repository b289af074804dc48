# SPDX-License-Identifier: Apache-2.0
# docs/config.schema.json as a string in the binary.
set(schema ${PROJECT_SOURCE_DIR}/docs/config.schema.json)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${schema})
file(READ ${schema} CTD_CONFIG_SCHEMA)
configure_file(${CMAKE_CURRENT_LIST_DIR}/config_schema.cpp.in ${CMAKE_CURRENT_BINARY_DIR}/config_schema.cpp @ONLY)
target_sources(ctd_daemon PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/config_schema.cpp)
