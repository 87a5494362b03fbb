#include "apply/table_plan.h"

#include <gtest/gtest.h>

#include <functional>

namespace bitacora::apply {
namespace {

constexpr std::uint32_t kInt4 = 23;
constexpr std::uint32_t kInt8 = 20;
constexpr std::uint32_t kText = 25;
constexpr std::uint32_t kMasterMood = 20001;
constexpr std::uint32_t kStandbyMood = 30001;

// What both sides have in common, before a case changes one of them.
struct Sides {
  pb::Relation relation;
  std::vector<SourceType> types;
  StandbyTable table;

  void column(const std::string& name, std::uint32_t oid, bool key = false) {
    auto& source = *relation.add_columns();
    source.set_name(name);
    source.set_type_oid(oid);
    source.set_key(key);
    types.push_back({"", "", oid});
    StandbyColumn target;
    target.name = name;
    target.base_oid = oid;
    target.type = target.base_type = oid == kInt4 ? "integer" : "text";
    target.equality = "OPERATOR(pg_catalog.=)";
    table.columns.push_back(target);
  }
};

Sides sides() {
  Sides both;
  both.relation.set_schema("s");
  both.relation.set_name("Tabla");
  both.table.schema = "s";
  both.table.name = "Tabla";
  both.table.writable = true;
  both.column("id", kInt4, true);
  both.column("Ñ", kText);
  both.table.key = {"id"};
  return both;
}

// A column only the standby has.
StandbyColumn own(const std::string& name, bool generated = false, bool required = false) {
  StandbyColumn column;
  column.name = name;
  column.generated = generated;
  column.required = required;
  return column;
}

struct ReachCase {
  const char* name;
  std::function<void(Sides&)> change;
  Reach reach;
};

TEST(TablePlan, KnowsWhatARowsChangeReaches) {
  const auto unique = [](std::vector<std::string> columns, bool loose = false) {
    return [=](Sides& both) { both.table.unique.push_back({columns, loose}); };
  };
  const auto no_key = [](Sides& both) { both.relation.mutable_columns(0)->set_key(false); };
  for (const ReachCase& c : {
           ReachCase{"its key", [](Sides&) {}, Reach::kKey},
           ReachCase{"of several columns", unique({"Ñ", "id"}), Reach::kKey},
           ReachCase{"another unique index", unique({"Ñ"}), Reach::kTable},
           ReachCase{"one over an expression", unique({}), Reach::kTable},
           ReachCase{"an exclusion constraint", unique({"id"}, true), Reach::kTable},
           ReachCase{"keys that are equal with other bytes",
                     [](Sides& both) { both.table.columns[0].equal_bytes = false; }, Reach::kTable},
           ReachCase{"a key that is cast",
                     [](Sides& both) { both.table.columns[0].base_oid = kInt8; }, Reach::kTable},
           ReachCase{"a unique index without our key", no_key, Reach::kTable},
           ReachCase{"nothing but rows",
                     [&](Sides& both) {
                       no_key(both);
                       both.table.unique.clear();
                     },
                     Reach::kKey},
           ReachCase{"what triggers do", [](Sides& both) { both.table.fires = true; },
                     Reach::kEverything},
           ReachCase{"foreign keys", [](Sides& both) { both.table.checks_others = true; },
                     Reach::kEverything},
       }) {
    SCOPED_TRACE(c.name);
    auto both = sides();
    both.table.unique = {{{"id"}, false}};
    both.table.columns[0].equal_bytes = true;
    c.change(both);
    const auto plan = plan_table(both.relation, both.types, both.table);
    ASSERT_TRUE(plan.ok()) << one_line(plan.error());
    EXPECT_EQ(plan->reach, c.reach);
  }
}

TEST(TablePlan, OfTwoEqualTables) {
  const auto both = sides();
  const auto plan = plan_table(both.relation, both.types, both.table);
  ASSERT_TRUE(plan.ok()) << one_line(plan.error());
  EXPECT_EQ(plan->target, R"("s"."Tabla")");
  ASSERT_EQ(plan->columns.size(), 2u);
  EXPECT_EQ(plan->columns[1].name, "\"Ñ\"");
  EXPECT_EQ(plan->columns[0].binary_oid, kInt4);
  EXPECT_EQ(plan->columns[0].text_oid, kInt4);
  EXPECT_EQ(plan->columns[0].cast, "");
  EXPECT_TRUE(plan->columns[0].key);
  EXPECT_FALSE(plan->columns[1].key);
  EXPECT_TRUE(plan->columns[0].writable);
  EXPECT_EQ(plan->locator, (std::vector<std::size_t>{0}));
  EXPECT_TRUE(plan->carried.empty());
  EXPECT_FALSE(plan->loose_identity_always);
  EXPECT_FALSE(plan->partitioned);
}

struct FitCase {
  const char* name;
  std::function<void(Sides&)> change;
  std::function<bool(const TablePlan&)> holds;
};

const std::vector<FitCase>& fit_cases() {
  static const std::vector<FitCase> kCases = {
      {"the relation's order counts",
       [](Sides& s) { std::swap(s.table.columns[0], s.table.columns[1]); },
       [](const TablePlan& p) { return p.columns[0].name == "\"id\"" && p.columns[0].key; }},
      {"another built-in type is cast",
       [](Sides& s) {
         s.table.columns[0].base_oid = kInt8;
         s.table.columns[0].base_type = "bigint";
       },
       [](const TablePlan& p) {
         const auto& id = p.columns[0];
         return id.cast == "bigint" && id.binary_oid == kInt4 && id.text_oid == kInt8;
       }},
      {"a user-defined type of the same name is the same type",
       [](Sides& s) {
         s.relation.mutable_columns(1)->set_type_oid(kMasterMood);
         s.types[1] = {"public", "mood", kStandbyMood};
         s.table.columns[1].base_oid = kStandbyMood;
         s.table.columns[1].base_name = "mood";
       },
       [](const TablePlan& p) {
         return p.columns[1].cast.empty() && p.columns[1].binary_oid == kStandbyMood;
       }},
      {"a user-defined type becomes a built-in one",
       [](Sides& s) {
         s.relation.mutable_columns(1)->set_type_oid(kMasterMood);
         s.types[1] = {"public", "mood", kStandbyMood};
       },
       [](const TablePlan& p) {
         const auto& v = p.columns[1];
         return v.cast == "text" && v.binary_oid == kStandbyMood && v.text_oid == kText;
       }},
      {"a generated column is not written", [](Sides& s) { s.table.columns[1].generated = true; },
       [](const TablePlan& p) { return !p.columns[1].writable; }},
      {"an identity key is not loose", [](Sides& s) { s.table.columns[0].identity_always = true; },
       [](const TablePlan& p) { return p.columns[0].identity_always && !p.loose_identity_always; }},
      {"an identity beside the key is", [](Sides& s) { s.table.columns[1].identity_always = true; },
       [](const TablePlan& p) { return p.loose_identity_always; }},
      {"partitioned", [](Sides& s) { s.table.partitioned = true; },
       [](const TablePlan& p) { return p.partitioned; }},
      {"the standby's own columns are carried, computed ones not",
       [](Sides& s) {
         s.table.columns.push_back(own("note"));
         s.table.columns.push_back(own("sum", true));
       },
       [](const TablePlan& p) { return p.carried == std::vector<std::string>{"\"note\""}; }},
  };
  return kCases;
}

TEST(TablePlan, FollowsWhatDiffers) {
  for (const auto& c : fit_cases()) {
    SCOPED_TRACE(c.name);
    Sides both = sides();
    c.change(both);
    const auto plan = plan_table(both.relation, both.types, both.table);
    ASSERT_TRUE(plan.ok()) << one_line(plan.error());
    EXPECT_TRUE(c.holds(*plan));
  }
}

TEST(TablePlan, LocatorIsTheMastersKeyOrWithFullAKeyOfTheStandbys) {
  struct Case {
    const char* name;
    pb::ReplicaIdentity identity;
    std::vector<bool> master_key;
    std::vector<std::string> standby_key;
    std::vector<std::size_t> locator;
    int constants = 0;
  };
  for (const Case& c : {
           Case{"key", pb::REPLICA_IDENTITY_DEFAULT, {true, false}, {"id"}, {0}},
           Case{"key the standby does not have",
                pb::REPLICA_IDENTITY_INDEX,
                {true, true},
                {},
                {0, 1}},
           Case{"no key", pb::REPLICA_IDENTITY_DEFAULT, {false, false}, {"id"}, {}},
           Case{"full", pb::REPLICA_IDENTITY_FULL, {true, true}, {"id"}, {0}},
           Case{"full, no key on the standby", pb::REPLICA_IDENTITY_FULL, {true, true}, {}, {}},
           Case{"full, a key the master does not send",
                pb::REPLICA_IDENTITY_FULL,
                {true, true},
                {"id", "other"},
                {}},
           Case{"full, and a constant", pb::REPLICA_IDENTITY_FULL, {true, true}, {"id"}, {0, 1}, 1},
           Case{"full, a constant in the key",
                pb::REPLICA_IDENTITY_FULL,
                {true, true},
                {"id", "Ñ"},
                {0, 1},
                1},
           Case{"no key, and a constant", pb::REPLICA_IDENTITY_FULL, {true, true}, {}, {}, 1},
       }) {
    SCOPED_TRACE(c.name);
    Sides both = sides();
    both.relation.set_replica_identity(c.identity);
    for (int i = 0; i < 2; ++i) {
      both.relation.mutable_columns(i)->set_key(c.master_key[static_cast<std::size_t>(i)]);
    }
    both.table.key = c.standby_key;
    const auto plan = plan_table(both.relation, both.types, both.table, c.constants);
    ASSERT_TRUE(plan.ok()) << one_line(plan.error());
    EXPECT_EQ(plan->locator, c.locator);
  }
}

TEST(TablePlan, AMisfitNamesTableColumnAndWhatMendsIt) {
  struct Case {
    const char* name;
    std::function<void(Sides&)> change;
    const char* message;
    const char* hint;
  };
  for (const Case& c : {
           Case{"missing column", [](Sides& s) { s.table.columns.pop_back(); },
                "has no column \"Ñ\"", "ALTER TABLE s.\"Tabla\" ADD COLUMN \"Ñ\""},
           Case{"missing type",
                [](Sides& s) {
                  s.relation.mutable_columns(1)->set_type_oid(kMasterMood);
                  s.types[1] = {"Tipos", "mood", {}};
                },
                "column \"Ñ\" needs type \"Tipos\".mood", "create the type"},
           Case{"required column",
                [](Sides& s) { s.table.columns.push_back(own("must", false, true)); },
                "column must is NOT NULL", "ALTER COLUMN must SET DEFAULT"},
           Case{"no rights", [](Sides& s) { s.table.writable = false; }, "may not write",
                "GRANT INSERT, UPDATE, DELETE ON s.\"Tabla\""},
           Case{"row security", [](Sides& s) { s.table.row_security = true; }, "row level security",
                "BYPASSRLS"},
       }) {
    SCOPED_TRACE(c.name);
    Sides both = sides();
    c.change(both);
    const auto plan = plan_table(both.relation, both.types, both.table);
    ASSERT_FALSE(plan.ok());
    EXPECT_EQ(plan.error().code, ErrorCode::kStandby);
    EXPECT_NE(plan.error().message.find("s.\"Tabla\""), std::string::npos);
    EXPECT_NE(plan.error().message.find(c.message), std::string::npos) << plan.error().message;
    EXPECT_NE(plan.error().hint.find(c.hint), std::string::npos) << plan.error().hint;
  }
}

}  // namespace
}  // namespace bitacora::apply
