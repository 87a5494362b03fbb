#include "apply/sequence_values.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apply/text_array.h"
#include "proto/relation.h"

namespace bitacora::apply {
namespace {

// One statement reads so many sequences: each is a table of its own to the planner.
constexpr std::size_t kReadsMax = 500;

// What the standby's sequence of that name is.
struct Here {
  bool readable = false;  // directly: SELECT
  bool writable = false;
  std::int64_t min = 0;
  std::int64_t max = 0;
  std::optional<std::int64_t> called_at;  // empty: never called, or that is not to be seen
};

// A master's sequence, with what is here.
struct Pair {
  const pb::SequenceValue* master = nullptr;
  std::string sql_name;
  std::optional<Here> here;
};

std::string qualified(const Pair& pair) {
  return proto::qualified_name(pair.master->schema(), pair.master->name());
}

std::int64_t number(const std::string& text) {
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// pg_sequence_last_value() refuses who may not read it, and says NULL of one that was never called.
constexpr const char* kFind =
    "SELECT has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT'),"
    " has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'UPDATE'),"
    " s.seqmin, s.seqmax, CASE WHEN has_sequence_privilege(c.oid, 'SELECT,USAGE')"
    "  THEN pg_sequence_last_value(c.oid) END, asked.number"
    " FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (schema, name, number)"
    " JOIN pg_namespace n ON n.nspname = asked.schema"
    " JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name"
    " JOIN pg_sequence s ON s.seqrelid = c.oid";

class SequenceSetter {
 public:
  explicit SequenceSetter(StandbySession& standby) : standby_(standby) {}

  Result<SequencesSet> set(const pb::SequenceValues& values) {
    RETURN_IF_ERROR(find(values));
    RETURN_IF_ERROR(compare());
    RETURN_IF_ERROR(write());
    if (!outside_.empty()) return outside();
    return std::move(done_);
  }

 private:
  Result<void> find(const pb::SequenceValues& values) {
    TextArray schemas, names;
    for (const auto& value : values.values()) {
      schemas.add(value.schema());
      names.add(value.name());
      pairs_.push_back(
          {&value,
           proto::sql_identifier(value.schema()) + "." + proto::sql_identifier(value.name()),
           {}});
    }
    ASSIGN_OR_RETURN(const auto rows, standby_.query("cannot look for the sequences", kFind,
                                                     {schemas.text(), names.text()}));
    for (const auto& row : rows) {
      Here here{row[0] == "t", row[1] == "t", number(*row[2]), number(*row[3]), {}};
      if (row[4]) here.called_at = number(*row[4]);
      pairs_[static_cast<std::size_t>(number(*row[5])) - 1].here = here;
    }
    return {};
  }

  Result<void> compare() {
    std::vector<const Pair*> uncalled;  // on both sides, as it seems
    for (const auto& pair : pairs_) {
      const auto& master = *pair.master;
      if (!pair.here) {
        done_.missing.push_back(qualified(pair));
      } else if (master.is_called() && pair.here->called_at == master.last_value()) {
        ++done_.equal;
      } else if (!master.is_called() && !pair.here->called_at && pair.here->readable) {
        uncalled.push_back(&pair);
      } else {
        differs(pair);
      }
    }
    for (std::size_t from = 0; from < uncalled.size(); from += kReadsMax) {
      const auto count = std::min(kReadsMax, uncalled.size() - from);
      RETURN_IF_ERROR(compare_uncalled(std::span(uncalled).subspan(from, count)));
    }
    return {};
  }

  // Only the sequence itself says where one that was never called will begin.
  Result<void> compare_uncalled(std::span<const Pair* const> pairs) {
    std::string sql;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      sql += fmt::format("{}SELECT {}, last_value, is_called FROM {}", i == 0 ? "" : " UNION ALL ",
                         i, pairs[i]->sql_name);
    }
    ASSIGN_OR_RETURN(const auto rows, standby_.query("cannot read the sequences", sql));
    for (const auto& row : rows) {
      const Pair* pair = pairs[static_cast<std::size_t>(number(*row[0]))];
      const bool equal = row[2] == "f" && number(*row[1]) == pair->master->last_value();
      if (equal) {
        ++done_.equal;
      } else {
        differs(*pair);
      }
    }
    return {};
  }

  void differs(const Pair& pair) {
    const auto value = pair.master->last_value();
    if (!pair.here->writable) {
      done_.refused.push_back(qualified(pair));
    } else if (value < pair.here->min || value > pair.here->max) {
      outside_.push_back(&pair);
    } else {
      differing_.push_back(&pair);
    }
  }

  // One that was dropped meanwhile is passed over: setval() of NULL is NULL.
  Result<void> write() {
    if (differing_.empty()) return {};
    TextArray names, values, called;
    for (const Pair* pair : differing_) {
      names.add(pair->sql_name);
      values.add(std::to_string(pair->master->last_value()));
      called.add(pair->master->is_called() ? "t" : "f");
    }
    ASSIGN_OR_RETURN(const auto rows,
                     standby_.query("cannot set the sequences",
                                    "SELECT count(setval(to_regclass(name), value, called))"
                                    " FROM unnest($1::text[], $2::bigint[], $3::boolean[])"
                                    " AS differing (name, value, called)",
                                    {names.text(), values.text(), called.text()}));
    done_.set = static_cast<std::size_t>(number(*rows[0][0]));
    return {};
  }

  Error outside() const {
    std::vector<std::string> each;
    for (const Pair* pair : outside_) {
      each.push_back(fmt::format("{} is at {} on the master, the standby's goes from {} to {}",
                                 qualified(*pair), pair->master->last_value(), pair->here->min,
                                 pair->here->max));
    }
    return {ErrorCode::kStandby, fmt::format("{}", fmt::join(each, "; ")),
            "give it the master's bounds, on the standby: ALTER SEQUENCE ... AS bigint MINVALUE ..."
            " MAXVALUE ..."};
  }

  StandbySession& standby_;
  std::vector<Pair> pairs_;
  std::vector<const Pair*> differing_;
  std::vector<const Pair*> outside_;
  SequencesSet done_;
};

}  // namespace

Result<std::vector<std::optional<pb::TableName>>> sequences_of(
    StandbySession& standby, const std::vector<SequenceColumn>& columns) {
  std::vector<std::optional<pb::TableName>> sequences(columns.size());
  if (columns.empty()) return sequences;
  TextArray schemas, tables, names;
  for (const auto& column : columns) {
    schemas.add(column.schema);
    tables.add(column.table);
    names.add(column.column);
  }
  ASSIGN_OR_RETURN(
      const auto rows,
      standby.query(
          "cannot look for the columns' sequences",
          "SELECT asked.number, sn.nspname, s.relname FROM unnest($1::text[], $2::text[],"
          " $3::text[]) WITH ORDINALITY AS asked (schema, name, attname, number)"
          " JOIN pg_namespace n ON n.nspname = asked.schema"
          " JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name"
          " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = asked.attname"
          " JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND"
          "  d.refobjsubid = a.attnum AND d.classid = 'pg_class'::regclass AND d.deptype IN"
          "  ('a', 'i') JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
          " JOIN pg_namespace sn ON sn.oid = s.relnamespace",
          {schemas.text(), tables.text(), names.text()}));
  for (const auto& row : rows) {
    auto& sequence = sequences[static_cast<std::size_t>(number(*row[0])) - 1].emplace();
    sequence.set_schema(*row[1]);
    sequence.set_name(*row[2]);
  }
  return sequences;
}

Result<SequencesSet> set_sequences(StandbySession& standby, const pb::SequenceValues& values) {
  return SequenceSetter(standby).set(values);
}

}  // namespace bitacora::apply
