#include "engine/copy_server.h"

#include <algorithm>
#include <atomic>
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

Result<std::vector<pb::TableName>> chosen_tables(wal::MasterSession& session,
                                                 const std::string& publication,
                                                 const ReceiverScope& scope) {
  ASSIGN_OR_RETURN(const auto published, wal::published_tables(session, publication));
  std::vector<pb::TableName> tables;
  for (const auto& relation : published.relations) {
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
  explicit Running(wal::CopySnapshot snapshot) : snapshot_(std::move(snapshot)) {}

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

  void give_up() { given_up_ = true; }
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

  std::atomic<bool> given_up_ = false;
  std::atomic<Clock::rep> used_at_{Clock::now().time_since_epoch().count()};
};

class CopyServer::Parts final : public transport::CopyParts {
 public:
  Parts(std::shared_ptr<Running> running, std::unique_ptr<wal::PartReader> reader, Grant grant)
      : running_(std::move(running)), reader_(std::move(reader)), grant_(std::move(grant)) {}

  Result<pb::CopyPartEnd> read(const pb::CopyPart& part, const transport::CopySink& sink,
                               const transport::OnWaiting& waiting) override {
    ASSIGN_OR_RETURN(const auto table, running_->table(part.relation_oid()));
    const auto& relation = table.plan.relation();
    RETURN_IF_ERROR(grant_.check(relation.schema(), relation.name()));
    auto read = reader_->read(
        table, part,
        [&](std::string_view piece) {
          running_->touch();
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
  void cancel() override { reader_->cancel(); }

 private:
  std::shared_ptr<Running> running_;
  std::unique_ptr<wal::PartReader> reader_;
  const Grant grant_;  // of who calls now: the plan may be older, or another's
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
  ASSIGN_OR_RETURN(auto snapshot, wal::CopySnapshot::make(options_.master, waiting, stop));
  auto running = std::make_shared<Running>(std::move(snapshot));
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
  for (auto& table : planned)
    running.tables().insert_or_assign(proto::qualified_name(table.plan.relation()),
                                      std::move(table));
  pb::CopyPlan plan;
  plan.set_snapshot(running.name());
  plan.set_lsn(running.lsn().value);
  for (const auto& table : request.tables()) {
    const auto found = running.tables().find(proto::qualified_name(table.schema(), table.name()));
    if (found != running.tables().end()) *plan.add_tables() = found->second.plan;
  }
  running.touch();
  return plan;
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
  ASSIGN_OR_RETURN(auto served, admit_(opening.caller(), peer));
  ASSIGN_OR_RETURN(auto running, find(opening.caller(), opening.snapshot()));
  auto reader = wal::PartReader::open(options_.master, running->name());
  if (!reader.ok()) {
    return reader.error().code == ErrorCode::kState ? snapshot_ended(opening.caller().receiver())
                                                    : reader.error();
  }
  return std::unique_ptr<transport::CopyParts>(std::make_unique<Parts>(
      std::move(running), std::move(reader).value(), std::move(served.grant)));
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
  for (const auto& table : request.tables())
    RETURN_IF_ERROR(served.grant.check(table.schema(), table.name()));
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
  const bool everything = shipped().matches_everything() && !scope.takes();
  if (options.tables.empty() && !everything) {
    ASSIGN_OR_RETURN(options.tables, chosen_tables(session, options_.publication, scope));
  }
  return engine::dump_schema(session, options, stop);
}

Result<pb::SequenceValues> CopyServer::sequences(const pb::ReadSequencesRequest& request,
                                                 const transport::Peer& peer) {
  ASSIGN_OR_RETURN(const auto served, admit_(request.caller(), peer));
  const std::lock_guard lock(query_mutex_);
  return wal::read_sequences(session_, options_.publication, tables_, served.grant.tables());
}

void CopyServer::take_tables(TablePatterns tables) {
  const std::lock_guard lock(query_mutex_);
  tables_ = std::move(tables);
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
