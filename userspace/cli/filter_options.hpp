// SPDX-License-Identifier: Apache-2.0
// The options that say which connections are meant, as conntrack has them; and the same as parameters of the API.
#pragma once

#include <string>
#include <vector>

#include "lib/conn_filter.hpp"

namespace CLI {
class App;
}

namespace ctd {

using FilterTerms = std::vector<ConnFilter::Term>;

// An option for each field of ConnFilter. What is given is added to `terms`, which must outlive the parsing; a filter
// that is wrong is an error of the command line.
void add_filter_options(CLI::App& app, FilterTerms& terms);

// "/v1/conntrack?proto=tcp&dport=80". more: beside the terms.
std::string filter_path(const std::string& path, const FilterTerms& terms, const FilterTerms& more = {});

}  // namespace ctd
