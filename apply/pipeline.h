// Commands sent ahead of their answers (libpq's pipeline mode), with a bound on what is on its way.
// Source: https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
#pragma once

#include <libpq-fe.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace bitacora::apply {

struct PipelineLimits {
  std::size_t commands_max = 4096;  // unanswered
  std::size_t bytes_max =
      1u << 20;  // unanswered; libpq moves its whole output buffer when a write is partial
};

// One execution's parameters, as libpq takes them. Reused from row to row.
struct Parameters {
  std::vector<const char*> values;
  std::vector<int> lengths;
  std::vector<int> formats;  // 0 text (zero-terminated), 1 binary

  void clear() {
    values.clear();
    lengths.clear();
    formats.clear();
  }
  std::size_t bytes() const;
};

// Belongs to the thread that owns the connection, which is in pipeline mode while the object lives,
// but between leave() and enter().
class Pipeline {
 public:
  // Called once per command, in order of sending; an Error of it ends the pipeline.
  using OnReply = std::function<Result<void>(const PGresult* reply)>;

  Pipeline(PGconn* connection, OnReply on_reply, PipelineLimits limits = {});

  // Each may take in replies that have arrived, and blocks while the limits are exceeded.
  Result<void> prepare(const std::string& name, const std::string& sql,
                       const std::vector<Oid>& types);
  Result<void> execute(const std::string& name, const Parameters& parameters,
                       bool binary_result = false);
  // Ends the implicit block: after an error the server takes commands again from here on.
  Result<void> sync();

  // Blocks until every command so far is answered.
  Result<void> finish();

  // The connection takes ordinary, blocking commands between the two. Everything must have been
  // answered, and the last command was a sync.
  Result<void> leave();
  Result<void> enter();

 private:
  Result<void> sent(int accepted, std::size_t bytes, bool is_sync = false);
  Result<void> take_replies();
  Result<void> take_one_reply(PGresult* reply);
  Result<void> wait_until(std::size_t commands, std::size_t bytes);
  Error lost() const;

  struct Unanswered {
    std::size_t bytes;
    bool is_sync;
    bool answered;
  };

  PGconn* connection_;
  OnReply on_reply_;
  PipelineLimits limits_;
  std::deque<Unanswered> unanswered_;
  std::size_t unanswered_bytes_ = 0;
  std::size_t since_flush_ = 0;
};

}  // namespace bitacora::apply
