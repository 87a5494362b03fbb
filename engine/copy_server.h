// The sender's side of copies: snapshots of the master, one for each receiver that copies, and what
// is read in them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/error.h"
#include "base/name_pattern.h"
#include "engine/publication_limits.h"
#include "engine/receiver_grants.h"
#include "transport/copy_source.h"
#include "wal/copy_plan.h"
#include "wal/copy_snapshot.h"
#include "wal/master_session.h"

namespace bitacora::engine {

struct CopyServerOptions {
  std::string master;  // conninfo
  std::string publication;
  TablePatterns tables;    // that the sender ships, to begin with
  std::string pg_bin_dir;  // see SchemaDumpOptions
};

// Thread-safe: called by connections' threads.
class CopyServer final : public transport::CopySource {
 public:
  struct Served {
    pb::Identity identity;  // whose changes these are
    Grant grant;
    bool registered;  // it has subscribed: only such a receiver has rows to copy
  };
  // `admit` refuses who is not to be served.
  using Admit = std::function<Result<Served>(const pb::Caller&, const transport::Peer&)>;
  CopyServer(CopyServerOptions options, Admit admit);
  ~CopyServer() override;

  Result<pb::CopyPlan> begin(const pb::BeginCopyRequest& request, const transport::Peer& peer,
                             const transport::OnWaiting& waiting,
                             const std::stop_token& stop) override;
  Result<std::unique_ptr<transport::CopyParts>> open(const pb::CopyOpening& opening,
                                                     const transport::Peer& peer) override;
  Result<void> end(const pb::EndCopyRequest& request, const transport::Peer& peer) override;
  Result<pb::DumpedSchema> dump_schema(const pb::DumpSchemaRequest& request,
                                       const transport::Peer& peer,
                                       const std::stop_token& stop) override;
  Result<pb::SequenceValues> sequences(const pb::ReadSequencesRequest& request,
                                       const transport::Peer& peer) override;

  // The sender ships others now, or the publication or the grants are others already: what is being
  // copied is held to them from its next rows on.
  void take_options(TablePatterns tables);

  // Lets go of snapshots whose receivers have been away for long: they hold back the master's
  // vacuum. To be called now and then.
  void expire();

 private:
  class Running;
  class Parts;

  Result<std::shared_ptr<Running>> find(const pb::Caller& caller, const std::string& snapshot);
  Result<std::shared_ptr<Running>> begin_or_go_on(const pb::BeginCopyRequest& request,
                                                  const transport::OnWaiting& waiting,
                                                  const std::stop_token& stop);
  TablePatterns shipped();
  Result<PublicationLimits> limits(const transport::OnWaiting& waiting,
                                   const std::stop_token& stop) const;
  Result<pb::CopyPlan> plan(Running& running, const pb::BeginCopyRequest& request,
                            const transport::OnWaiting& waiting, const std::stop_token& stop);
  // As of the options that were taken so often.
  Result<void> check_published(Running& running, const pb::Relation& relation, std::uint64_t taken,
                               const transport::OnWaiting& waiting, const std::stop_token& stop);

  const CopyServerOptions options_;
  const Admit admit_;
  std::atomic<std::uint64_t> options_taken_{0};  // so often

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Running>> running_;  // by receiver; guarded by mutex_

  std::mutex query_mutex_;
  // Guarded by query_mutex_:
  TablePatterns tables_;
  wal::MasterSession session_;
};

}  // namespace bitacora::engine
