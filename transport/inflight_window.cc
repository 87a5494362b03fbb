#include "transport/inflight_window.h"

#include "base/check.h"

namespace bitacora::transport {

bool InflightWindow::has_room() const {
  return sent_.empty() || (sent_.size() < limits_.frames_max && bytes_ < limits_.bytes_max);
}

void InflightWindow::on_sent(std::uint64_t sequence, std::size_t bytes) {
  CHECK(sequence == last_sent_ + 1);
  last_sent_ = sequence;
  sent_.push_back({sequence, bytes});
  bytes_ += bytes;
}

bool InflightWindow::on_acknowledged(std::uint64_t sequence) {
  if (sequence > last_sent_) return false;
  while (!sent_.empty() && sent_.front().sequence <= sequence) {
    bytes_ -= sent_.front().bytes;
    sent_.pop_front();
  }
  return true;
}

}  // namespace bitacora::transport
