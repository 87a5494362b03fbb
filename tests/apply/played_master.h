// A master played by plain SQL: statements run on a real database, and what a sender would ship of
// them is collected as batches. No slot, no walsender: every shape of change can be made at will.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apply/standby_session.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"
#include "proto/row_block.h"

namespace bitacora::apply {

enum class ValueFormat { kBinary, kText };

// What the database refuses is thrown as std::runtime_error.
class PlayedMaster {
 public:
  using Batch = std::shared_ptr<const pb::ChangeBatch>;
  static constexpr MasterLsn kStart{0x1'0000'1000};

  explicit PlayedMaster(const std::string& conninfo, ValueFormat format = ValueFormat::kBinary);

  // As for another connection: tables are described anew at their next change.
  void reconnect() { tables_.clear(); }
  // Not shipped. Tables are described anew at their next change.
  void execute(const std::string& sql);
  // In updates a value of such a column that stays the same is left out, as if it were TOASTed.
  void toast(const std::string& column) { toasted_.insert(column); }

  void begin();
  // Names without blanks: INSERT INTO table ..., UPDATE table SET ... WHERE ..., or DELETE FROM
  // table WHERE ...
  void change(const std::string& sql);
  void truncate(const std::vector<std::string>& tables, bool restart_identity = false);
  void commit();
  void transaction(const std::vector<std::string>& changes);
  void idle();

  // Everything since the last call. A transaction may be open: it goes on in the next batch.
  Batch take();
  // The end of the last transaction or idle position.
  MasterLsn end() const { return end_; }

 private:
  struct Table {
    std::string sql_name;
    pb::Relation relation;
    std::vector<bool> has_send;
  };
  struct OwnedValue {
    proto::ValueKind kind;
    std::string bytes;
  };
  using OwnedTuple = std::vector<OwnedValue>;

  ResultHandle ask(const std::string& sql, bool binary = false);
  const Table& described(const std::string& name);
  std::string places(const std::string& sql);
  std::vector<OwnedTuple> rows_at(const Table& table, const std::string& places);
  void update(const Table& table, std::vector<OwnedTuple> before, std::vector<OwnedTuple> after);
  static OwnedTuple key_of(const Table& table, const OwnedTuple& whole);
  void append(const Table& table, pb::RowOperation operation, const OwnedTuple& before,
              const OwnedTuple& after);
  pb::Part& add_part();
  void end_block();

  struct Finish {
    void operator()(PGconn* connection) const noexcept { PQfinish(connection); }
  };
  std::unique_ptr<PGconn, Finish> connection_;
  ValueFormat format_;
  std::set<std::string> toasted_;
  std::map<std::string, Table> tables_;
  std::shared_ptr<pb::ChangeBatch> batch_ = std::make_shared<pb::ChangeBatch>();
  std::optional<proto::RowBlockBuilder> block_;
  MasterLsn end_ = kStart;
};

}  // namespace bitacora::apply
