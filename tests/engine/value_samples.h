// Edge values of PostgreSQL's built-in types, in their input syntax.
#pragma once

#include <string>
#include <vector>

namespace bitacora::harness {

struct ValueSamples {
  std::string type;                           // as pg_type names it
  std::vector<std::string> values;            // literals
  std::vector<std::string> expressions = {};  // SQL, for what no literal should spell out
};

const std::vector<ValueSamples>& value_samples();

}  // namespace bitacora::harness
