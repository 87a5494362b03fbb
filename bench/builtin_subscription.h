// PostgreSQL's own logical replication between two databases, as the measure.
#pragma once

#include <chrono>
#include <string>

namespace bitacora::bench {

// Its initial sync, of a publication that is there.
struct WithCopy {};

class BuiltinSubscription {
 public:
  // Publication, slot and subscription, all of this name, without initial copy, in the fastest
  // form these servers have: binary, and streaming to parallel workers from 16 on. Returns when it
  // streams.
  BuiltinSubscription(std::string master, std::string standby, std::string name);
  // The same of a publication `name` and a slot that are there already; disabled until enable().
  BuiltinSubscription(std::string master, std::string standby, std::string name, std::string slot);
  // The same of a publication `name` that is there, with initial copy, which is under way when this
  // returns; in binary form from 16 on.
  BuiltinSubscription(std::string master, std::string standby, std::string name, WithCopy);
  BuiltinSubscription(const BuiltinSubscription&) = delete;
  BuiltinSubscription& operator=(const BuiltinSubscription&) = delete;
  ~BuiltinSubscription();  // drops it with its slot, which would hold the master's WAL

  void enable();
  // By which way its worker reaches the master from its next start on.
  void connect_by(const std::string& conninfo);
  void await_streaming();
  void await_copied(std::chrono::milliseconds timeout);
  void disable();          // returns when nothing streams any more
  void throw_if_failed();  // the worker starts again after an error, and would do so for ever

 private:
  void subscribe(bool copy, const std::string& options);
  void await_slot(bool active);

  std::string master_;
  std::string standby_;
  std::string name_;
  std::string slot_;
};

}  // namespace bitacora::bench
