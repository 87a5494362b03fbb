#include "apply/pipeline.h"

#include <poll.h>

#include <utility>

#include "apply/standby_session.h"

namespace bitacora::apply {
namespace {

constexpr std::size_t kCommandBytes = 64;  // protocol overhead of one command, roughly
constexpr std::size_t kFlushBytes = 64 << 10;

}  // namespace

std::size_t Parameters::bytes() const {
  std::size_t bytes = 0;
  for (const int length : lengths) bytes += static_cast<std::size_t>(length);
  return bytes;
}

Pipeline::Pipeline(PGconn* connection, OnReply on_reply, PipelineLimits limits)
    : connection_(connection), on_reply_(std::move(on_reply)), limits_(limits) {
  const auto entered = enter();
  CHECK(entered.ok());
}

Result<void> Pipeline::enter() {
  const bool entered =
      PQsetnonblocking(connection_, 1) == 0 && PQenterPipelineMode(connection_) == 1;
  return entered ? Result<void>{} : lost();
}

Result<void> Pipeline::leave() {
  CHECK(unanswered_.empty());
  const bool left = PQexitPipelineMode(connection_) == 1 && PQsetnonblocking(connection_, 0) == 0;
  return left ? Result<void>{} : lost();
}

Error Pipeline::lost() const { return standby_error(connection_, nullptr, "lost the standby"); }

Result<void> Pipeline::prepare(const std::string& name, const std::string& sql,
                               const std::vector<Oid>& types) {
  return sent(PQsendPrepare(connection_, name.c_str(), sql.c_str(), static_cast<int>(types.size()),
                            types.data()),
              sql.size());
}

Result<void> Pipeline::execute(const std::string& name, const Parameters& parameters,
                               bool binary_result) {
  return sent(
      PQsendQueryPrepared(connection_, name.c_str(), static_cast<int>(parameters.values.size()),
                          parameters.values.data(), parameters.lengths.data(),
                          parameters.formats.data(), binary_result ? 1 : 0),
      parameters.bytes());
}

Result<void> Pipeline::sync() { return sent(PQpipelineSync(connection_), 0, true); }

Result<void> Pipeline::sent(int accepted, std::size_t bytes, bool is_sync) {
  if (accepted != 1) return lost();
  const std::size_t size = bytes + kCommandBytes;
  unanswered_.push_back({size, is_sync, false});
  unanswered_bytes_ += size;
  since_flush_ += size;
  if (since_flush_ >= kFlushBytes) {
    since_flush_ = 0;
    if (PQflush(connection_) < 0) return lost();
    RETURN_IF_ERROR(take_replies());
  }
  if (unanswered_.size() <= limits_.commands_max && unanswered_bytes_ <= limits_.bytes_max)
    return {};
  // Answers lie in the server's own buffer until it is asked for them. Wait until half is answered,
  // so that both sides keep working.
  if (PQsendFlushRequest(connection_) != 1) return lost();
  return wait_until(limits_.commands_max / 2, limits_.bytes_max / 2);
}

Result<void> Pipeline::finish() {
  if (unanswered_.empty()) return {};
  if (!unanswered_.back().is_sync && PQsendFlushRequest(connection_) != 1) return lost();
  return wait_until(0, 0);
}

Result<void> Pipeline::wait_until(std::size_t commands, std::size_t bytes) {
  while (true) {
    const int unsent = PQflush(connection_);
    if (unsent < 0) return lost();
    RETURN_IF_ERROR(take_replies());
    if (unanswered_.size() <= commands && unanswered_bytes_ <= bytes) return {};
    pollfd socket{PQsocket(connection_), static_cast<short>(POLLIN | (unsent > 0 ? POLLOUT : 0)),
                  0};
    ::poll(&socket, 1, -1);
  }
}

Result<void> Pipeline::take_replies() {
  if (PQconsumeInput(connection_) == 0) return lost();
  while (!unanswered_.empty() && PQisBusy(connection_) == 0) {
    const ResultHandle reply(PQgetResult(connection_));
    if (PQstatus(connection_) == CONNECTION_BAD) return lost();
    RETURN_IF_ERROR(take_one_reply(reply.get()));
  }
  return {};
}

// A command's reply is followed by a null one; a sync's is not.
Result<void> Pipeline::take_one_reply(PGresult* reply) {
  Unanswered& first = unanswered_.front();
  if (reply != nullptr) {
    first.answered = true;
    RETURN_IF_ERROR(on_reply_(reply));
  }
  if (first.answered && (reply == nullptr || first.is_sync)) {
    unanswered_bytes_ -= first.bytes;
    unanswered_.pop_front();
  }
  return {};
}

}  // namespace bitacora::apply
