// Of a few rounds' values.
#pragma once

#include <vector>

namespace bitacora::bench {

// The value that the share `p` of them is below; 0 of none.
double percentile(std::vector<double> values, double p);
double median(std::vector<double> values);  // 0 of none

}  // namespace bitacora::bench
