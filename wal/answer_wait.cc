#include "wal/answer_wait.h"

#include <poll.h>

#include <utility>

#include <fmt/format.h>

namespace bitacora::wal {
namespace {

constexpr std::chrono::seconds kSecond{1};
constexpr std::chrono::seconds kGivingUpTime{5};
constexpr int kLookIntervalMs = 50;  // at `stop`, while nothing comes

}  // namespace

AnswerWait::AnswerWait(PGconn* connection, std::string doing, std::function<void()> each_second,
                       std::stop_token stop)
    : connection_(connection),
      doing_(std::move(doing)),
      each_second_(std::move(each_second)),
      stop_(std::move(stop)),
      next_second_(Clock::now() + kSecond) {}

Result<void> AnswerWait::answer() {
  while (PQisBusy(connection_) == 1) RETURN_IF_ERROR(input());
  return {};
}

Result<void> AnswerWait::input() {
  if (stop_.stop_requested() && deadline_ == Clock::time_point::max()) {
    cancel_query(connection_);
    deadline_ = Clock::now() + kGivingUpTime;
  }
  pollfd descriptor{PQsocket(connection_), POLLIN, 0};
  const bool arrived = ::poll(&descriptor, 1, kLookIntervalMs) > 0;
  const auto now = Clock::now();
  if (arrived) {
    next_second_ = now + kSecond;
  } else if (now >= deadline_) {
    return Error{ErrorCode::kMaster, fmt::format("{}: the master does not give it up", doing_)};
  } else if (now >= next_second_) {
    each_second_();
    next_second_ = Clock::now() + kSecond;
  }
  if (PQconsumeInput(connection_) == 0) return master_error(connection_, doing_);
  return {};
}

}  // namespace bitacora::wal
