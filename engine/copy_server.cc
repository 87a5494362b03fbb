#include "engine/copy_server.h"

#include <algorithm>
#include <atomic>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "engine/schema_dump.h"
#include "proto/relation.h"
#include "wal/part_reader.h"
#include "wal/published_tables.h"
#include "wal/sequences.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::minutes kAwayMax{10};  // a receiver's host may have to be restarted

Error snapshot_ended(const std::string& receiver) {
  return {ErrorCode::kMaster,
          fmt::format("the snapshot that receiver {} copies in has ended", receiver),
          {},
          Recovery::kRetry};
}

// The next snapshot shows what is published by then.
Error published_otherwise(const pb::Relation& relation) {
  return {ErrorCode::kMaster,
          fmt::format("what is published of {} has changed since its copy began",
                      proto::qualified_name(relation)),
          {},
          Recovery::kRetry};
}

// It may have been registered with an earlier sender, and is about to come to this one.
Result<void> check_registered(const CopyServer::Served& served, const pb::Caller& caller) {
  if (served.registered) return {};
  return Error{ErrorCode::kNetwork,
               fmt::format("receiver {} has not subscribed to the changes", caller.receiver()),
               {},
               Recovery::kRetry};
}

Result<std::vector<pb::TableName>> chosen_tables(const PublicationLimits& published,
                                                 const ReceiverScope& scope) {
  std::vector<pb::TableName> tables;
  for (const auto& relation : published.relations()) {
    if (!scope.matches(relation.schema(), relation.name())) continue;
    auto& table = tables.emplace_back();
    table.set_schema(relation.schema());
    table.set_name(relation.name());
  }
  if (!tables.empty()) return tables;
  return Error{ErrorCode::kConfiguration, "none of the published tables is chosen",
               "compare --tables of sender and receiver with: SELECT * FROM pg_publication_tables"};
}

// For a receiver that leaves out what is not published, what it may not have is not published.
Result<pb::BeginCopyRequest> allowed_tables(pb::BeginCopyRequest request, const Grant& grant) {
  if (!request.leave_out_unpublished()) {
    for (const auto& table : request.tables())
      RETURN_IF_ERROR(grant.check(table.schema(), table.name()));
    return request;
  }
  auto& tables = *request.mutable_tables();
  tables.erase(std::remove_if(tables.begin(), tables.end(),
                              [&](const pb::TableName& table) {
                                return !grant.tables().matches(table.schema(), table.name());
                              }),
               tables.end());
  return request;
}

}  // namespace

// One receiver's snapshot and the tables that were planned in it.
class CopyServer::Running {
 public:
  Running(wal::CopySnapshot snapshot, std::uint64_t options_taken)
      : snapshot_(std::move(snapshot)), checked_at_(options_taken) {}

  const std::string& name() const { return snapshot_.name(); }
  MasterLsn lsn() const { return snapshot_.lsn(); }

  // One caller at a time, as all that asks the master.
  std::mutex& mutex() { return mutex_; }
  wal::CopySnapshot& snapshot() { return snapshot_; }
  std::map<std::string, wal::CopyPlanTable>& tables() { return tables_; }

  Result<wal::CopyPlanTable> table(std::uint32_t relation_oid) {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, table] : tables_) {
      if (table.plan.relation().oid() == relation_oid) return table;
    }
    return Error{ErrorCode::kState,
                 fmt::format("relation {} is in no plan of this copy", relation_oid),
                 "run the same version of bitacora on both sides"};
  }

  // Whether it is known what has lapsed as of the options that were taken so often.
  bool checked(std::uint64_t options_taken) {
    const std::lock_guard lock(mutex_);
    return checked_at_ >= options_taken;
  }
  void check(const PublicationLimits& limits, std::uint64_t options_taken) {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, table] : tables_) {
      if (!limits.allow(table)) lapsed_.insert(table.plan.relation().oid());
    }
    checked_at_ = std::max(checked_at_, options_taken);
  }
  bool lapsed(std::uint32_t relation_oid) {
    const std::lock_guard lock(mutex_);
    return lapsed_.contains(relation_oid);
  }

  void give_up() { given_up_ = true; }
  Error lapse(const pb::Relation& relation) {
    give_up();
    return published_otherwise(relation);
  }
  bool given_up() const { return given_up_; }
  void touch() { used_at_ = Clock::now().time_since_epoch().count(); }
  bool used_since(Clock::time_point moment) const {
    return Clock::time_point(Clock::duration(used_at_.load())) >= moment;
  }

 private:
  std::mutex mutex_;
  // Guarded by mutex_, but for what never changes:
  wal::CopySnapshot snapshot_;
  std::map<std::string, wal::CopyPlanTable> tables_;  // by qualified name
  std::set<std::uint32_t> lapsed_;  // of the tables those that the publication no longer has so
  std::uint64_t checked_at_;        // options taken by then

  std::atomic<bool> given_up_ = false;
  std::atomic<Clock::rep> used_at_{Clock::now().time_since_epoch().count()};
};

class CopyServer::Parts final : public transport::CopyParts {
 public:
  Parts(CopyServer& server, std::shared_ptr<Running> running,
        std::unique_ptr<wal::PartReader> reader, pb::Caller caller, transport::Peer peer)
      : server_(server),
        running_(std::move(running)),
        reader_(std::move(reader)),
        caller_(std::move(caller)),
        peer_(std::move(peer)) {}

  Result<pb::CopyPartEnd> read(const pb::CopyPart& part, const transport::CopySink& sink,
                               const transport::OnWaiting& waiting) override {
    ASSIGN_OR_RETURN(const auto table, running_->table(part.relation_oid()));
    if (running_->given_up()) return snapshot_ended(caller_.receiver());
    RETURN_IF_ERROR(check_rights(table, waiting));
    auto read = reader_->read(
        table, part,
        [&](std::string_view piece) -> Result<void> {
          running_->touch();
          if (server_.options_taken_ != checked_at_) RETURN_IF_ERROR(check_rights(table, waiting));
          return sink(piece);
        },
        [&](const std::string& what) {
          running_->touch();
          waiting(what);
        });
    if (read.ok() || read.error().code != ErrorCode::kState) return read;
    // The table is no longer what the snapshot shows: another one does.
    running_->give_up();
    Error error = read.error();
    error.recovery = Recovery::kRetry;
    return error;
  }
  void cancel() override {
    stop_.request_stop();
    reader_->cancel();
  }

 private:
  // A copy may take days, and its plan may be older than the call, or another's.
  Result<void> check_rights(const wal::CopyPlanTable& table, const transport::OnWaiting& waiting) {
    checked_at_ = server_.options_taken_;
    ASSIGN_OR_RETURN(const auto served, server_.admit_(caller_, peer_));
    const auto& relation = table.plan.relation();
    RETURN_IF_ERROR(served.grant.check(relation.schema(), relation.name()));
    // Who has a lock that the list needs may wait for our own, of this very copy.
    const auto end_on_lock = [&](const std::string& what) {
      waiting(what);
      stop_.request_stop();
    };
    auto checked =
        server_.check_published(*running_, relation, checked_at_, end_on_lock, stop_.get_token());
    if (checked.ok() || !stop_.stop_requested()) return checked;
    Error error = checked.error();
    error.recovery = Recovery::kRetry;
    return error;
  }

  CopyServer& server_;
  std::shared_ptr<Running> running_;
  std::unique_ptr<wal::PartReader> reader_;
  const pb::Caller caller_;
  const transport::Peer peer_;
  std::stop_source stop_;
  std::uint64_t checked_at_ = 0;  // options taken by then
};

CopyServer::CopyServer(CopyServerOptions options, Admit admit)
    : options_(std::move(options)),
      admit_(std::move(admit)),
      tables_(options_.tables),
      session_(options_.master) {}

CopyServer::~CopyServer() = default;

Result<pb::CopyPlan> CopyServer::begin(const pb::BeginCopyRequest& request,
                                       const transport::Peer& peer,
                                       const transport::OnWaiting& waiting,
                                       const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto served, admit_(request.caller(), peer));
  RETURN_IF_ERROR(check_registered(served, request.caller()));
  ASSIGN_OR_RETURN(const auto scope, served.grant.scope({}));
  ASSIGN_OR_RETURN(const auto allowed, allowed_tables(request, served.grant));
  ASSIGN_OR_RETURN(const auto running, begin_or_go_on(allowed, waiting, stop));
  ASSIGN_OR_RETURN(auto plan, this->plan(*running, allowed, waiting, stop));
  *plan.mutable_identity() = std::move(served.identity);
  const std::lock_guard lock(query_mutex_);
  ASSIGN_OR_RETURN(auto published, wal::published_tables(session_, options_.publication));
  const auto types = scope.narrowed(std::move(published)).types;
  plan.mutable_types()->Assign(types.begin(), types.end());
  return plan;
}

Result<std::shared_ptr<CopyServer::Running>> CopyServer::begin_or_go_on(
    const pb::BeginCopyRequest& request, const transport::OnWaiting& waiting,
    const std::stop_token& stop) {
  const auto& receiver = request.caller().receiver();
  if (auto found = find(request.caller(), request.snapshot()); found.ok()) {
    const std::lock_guard lock((*found)->mutex());
    if ((*found)->snapshot().alive()) return *found;
  }
  const auto options_taken = options_taken_.load();
  ASSIGN_OR_RETURN(auto snapshot, wal::CopySnapshot::make(options_.master, waiting, stop));
  auto running = std::make_shared<Running>(std::move(snapshot), options_taken);
  spdlog::info("event=copy_begun receiver={} snapshot={} lsn={}", receiver, running->name(),
               to_string(running->lsn()));
  const std::lock_guard lock(mutex_);
  running_[receiver] = running;
  return running;
}

Result<pb::CopyPlan> CopyServer::plan(Running& running, const pb::BeginCopyRequest& request,
                                      const transport::OnWaiting& waiting,
                                      const std::stop_token& stop) {
  const std::lock_guard lock(running.mutex());
  std::vector<pb::TableName> unplanned;
  for (const auto& table : request.tables()) {
    if (!running.tables().contains(proto::qualified_name(table.schema(), table.name())))
      unplanned.push_back(table);
  }
  ASSIGN_OR_RETURN(auto planned,
                   wal::plan_copy(running.snapshot(), options_.master, options_.publication,
                                  unplanned, waiting, stop,
                                  request.leave_out_unpublished() ? wal::Unpublished::kLeftOut
                                                                  : wal::Unpublished::kRefused));
  // The snapshot shows the publication as it was: what it is now counts.
  ASSIGN_OR_RETURN(const auto limits, this->limits(waiting, stop));
  for (const auto& table : planned) {
    if (!limits.allow(table)) return running.lapse(table.plan.relation());
  }
  for (auto& table : planned)
    running.tables().insert_or_assign(proto::qualified_name(table.plan.relation()),
                                      std::move(table));
  pb::CopyPlan plan;
  plan.set_snapshot(running.name());
  plan.set_lsn(running.lsn().value);
  for (const auto& table : request.tables()) {
    const auto found = running.tables().find(proto::qualified_name(table.schema(), table.name()));
    if (found == running.tables().end()) continue;
    if (!limits.allow(found->second)) return running.lapse(found->second.plan.relation());
    *plan.add_tables() = found->second.plan;
  }
  running.touch();
  return plan;
}

Result<PublicationLimits> CopyServer::limits(const transport::OnWaiting& waiting,
                                             const std::stop_token& stop) const {
  return PublicationLimits::load(options_.master, options_.publication, waiting, stop);
}

// Other tables of the snapshot go on: a publication that only grows ends no copy.
Result<void> CopyServer::check_published(Running& running, const pb::Relation& relation,
                                         std::uint64_t taken, const transport::OnWaiting& waiting,
                                         const std::stop_token& stop) {
  if (!running.checked(taken)) {
    ASSIGN_OR_RETURN(const auto limits, this->limits(waiting, stop));
    running.check(limits, taken);
  }
  if (!running.lapsed(relation.oid())) return {};
  return running.lapse(relation);
}

Result<std::shared_ptr<CopyServer::Running>> CopyServer::find(const pb::Caller& caller,
                                                              const std::string& snapshot) {
  const std::lock_guard lock(mutex_);
  const auto found = running_.find(caller.receiver());
  if (found == running_.end() || found->second->name() != snapshot || found->second->given_up())
    return snapshot_ended(caller.receiver());
  found->second->touch();
  return found->second;
}

Result<std::unique_ptr<transport::CopyParts>> CopyServer::open(const pb::CopyOpening& opening,
                                                               const transport::Peer& peer) {
  ASSIGN_OR_RETURN(const auto served, admit_(opening.caller(), peer));
  RETURN_IF_ERROR(check_registered(served, opening.caller()));
  ASSIGN_OR_RETURN(auto running, find(opening.caller(), opening.snapshot()));
  auto reader = wal::PartReader::open(options_.master, running->name());
  if (!reader.ok()) {
    return reader.error().code == ErrorCode::kState ? snapshot_ended(opening.caller().receiver())
                                                    : reader.error();
  }
  return std::unique_ptr<transport::CopyParts>(std::make_unique<Parts>(
      *this, std::move(running), std::move(reader).value(), opening.caller(), peer));
}

Result<void> CopyServer::end(const pb::EndCopyRequest& request, const transport::Peer& peer) {
  RETURN_IF_ERROR(admit_(request.caller(), peer));
  const std::lock_guard lock(mutex_);
  const auto found = running_.find(request.caller().receiver());
  if (found == running_.end() || found->second->name() != request.snapshot()) return {};
  spdlog::info("event=copy_ended receiver={} snapshot={}", request.caller().receiver(),
               request.snapshot());
  running_.erase(found);
  return {};
}

Result<pb::DumpedSchema> CopyServer::dump_schema(const pb::DumpSchemaRequest& request,
                                                 const transport::Peer& peer,
                                                 const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const auto served, admit_(request.caller(), peer));
  ASSIGN_OR_RETURN(const auto published, limits({}, stop));
  for (const auto& table : request.tables()) {
    RETURN_IF_ERROR(served.grant.check(table.schema(), table.name()));
    RETURN_IF_ERROR(published.check(table.schema(), table.name()));
  }
  SchemaDumpOptions options;
  options.conninfo = options_.master;
  options.bin_dir = options_.pg_bin_dir;
  options.snapshot = request.snapshot();
  options.existing.assign(request.existing().begin(), request.existing().end());
  options.tables.assign(request.tables().begin(), request.tables().end());
  wal::MasterSession session(options_.master);
  ASSIGN_OR_RETURN(const auto scope,
                   served.grant.scope({request.patterns().begin(), request.patterns().end()}));
  // Who ships or takes a choice has no business with the rest.
  if (options.tables.empty()) {
    bool everything = shipped().matches_everything() && !scope.takes();
    if (everything) {
      ASSIGN_OR_RETURN(everything, publishes_every_table(session, options_.publication));
    }
    if (!everything) {
      ASSIGN_OR_RETURN(options.tables, chosen_tables(published, scope));
    }
  }
  return engine::dump_schema(session, options, stop);
}

Result<pb::SequenceValues> CopyServer::sequences(const pb::ReadSequencesRequest& request,
                                                 const transport::Peer& peer) {
  ASSIGN_OR_RETURN(const auto served, admit_(request.caller(), peer));
  const std::lock_guard lock(query_mutex_);
  return wal::read_sequences(session_, options_.publication, tables_, served.grant.tables());
}

void CopyServer::take_options(TablePatterns tables) {
  {
    const std::lock_guard lock(query_mutex_);
    tables_ = std::move(tables);
  }
  ++options_taken_;
}

TablePatterns CopyServer::shipped() {
  const std::lock_guard lock(query_mutex_);
  return tables_;
}

void CopyServer::expire() {
  const std::lock_guard lock(mutex_);
  std::erase_if(running_, [](const auto& each) {
    const auto& [receiver, running] = each;
    const bool in_use = running.use_count() > 1;
    const bool away = !in_use && !running->used_since(Clock::now() - kAwayMax);
    if (away) {
      spdlog::warn(
          "event=copy_given_up receiver={} snapshot={} reason=\"the receiver has been away for {} "
          "min\" action=\"its unfinished tables begin anew when it comes back\"",
          receiver, running->name(), kAwayMax.count());
    }
    return away;
  });
}

}  // namespace bitacora::engine
