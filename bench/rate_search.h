// The highest rate that can be kept up, by bisection. Pure.
#pragma once

#include <optional>

namespace bitacora::bench {

class RateSearch {
 public:
  // Between 0 and `ceiling`, down to the share `precision` of the ceiling.
  RateSearch(double ceiling, double precision)
      : least_lost_(ceiling), step_min_(ceiling * precision) {}

  // Empty when it is found.
  std::optional<double> next() const {
    if (least_lost_ - most_kept_ <= step_min_) return std::nullopt;
    return (most_kept_ + least_lost_) / 2;
  }
  void on_step(double rate, bool kept) { (kept ? most_kept_ : least_lost_) = rate; }

  double most_kept() const { return most_kept_; }  // 0: none was

 private:
  double most_kept_ = 0;
  double least_lost_;
  const double step_min_;
};

}  // namespace bitacora::bench
