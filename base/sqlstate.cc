#include "base/sqlstate.h"

#include <algorithm>
#include <array>

namespace bitacora {

Recovery recovery_for_sqlstate(std::string_view sqlstate) {
  static constexpr std::array<std::string_view, 9> kHealing = {
      "57P01", "57P02", "57P03", "53100", "53200", "53300", "55006", "55P03", "57P05"};
  const bool heals = sqlstate.empty() || sqlstate.starts_with("08") || sqlstate.starts_with("40") ||
                     std::find(kHealing.begin(), kHealing.end(), sqlstate) != kHealing.end();
  return heals ? Recovery::kRetry : Recovery::kStop;
}

}  // namespace bitacora
