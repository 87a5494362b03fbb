#include "apply/sequence_values.h"

#include <fmt/format.h>

#include <limits>

#include "tests/apply/standby_fixture.h"
#include "tests/postgres/servers.h"

namespace bitacora::apply {
namespace {

constexpr auto kLargest = std::numeric_limits<std::int64_t>::max();
constexpr auto kSmallest = std::numeric_limits<std::int64_t>::min();

void add(pb::SequenceValues& values, const std::string& name, std::int64_t last, bool called = true,
         const std::string& schema = "public") {
  auto& value = *values.add_values();
  value.set_schema(schema);
  value.set_name(name);
  value.set_last_value(last);
  value.set_is_called(called);
}

class SequenceValuesTest : public StandbyFixture, public testing::WithParamInterface<int> {
 protected:
  SequenceValuesTest() : StandbyFixture(cluster_of(usable_version())) {}

  void SetUp() override {
    if (usable_version() != GetParam()) GTEST_SKIP() << harness::why_missing(GetParam());
  }

  SequencesSet set(const pb::SequenceValues& values) {
    const auto done = set_sequences(session(), values);
    EXPECT_TRUE(succeeded(done));
    return done.ok() ? *done : SequencesSet{};
  }

  std::string state(const std::string& sequence) const {
    return value("SELECT concat_ws(' ', last_value, is_called) FROM " + sequence);
  }

  // Of the last write to any of them.
  std::string written_at() const {
    return value(
        "SELECT max((page_header(get_raw_page(oid::regclass::text, 0))).lsn)"
        " FROM pg_class WHERE relkind = 'S'");
  }

 private:
  static int usable_version() {
    const auto servers = harness::available_servers();
    return servers.contains(GetParam()) ? GetParam() : servers.begin()->first;
  }
};

TEST_P(SequenceValuesTest, EachIsWhereTheMastersWas) {
  execute(R"(CREATE SCHEMA "Ñ"; CREATE SEQUENCE "Ñ"."it's ""x""\,{}";
             CREATE SEQUENCE largest; CREATE SEQUENCE down INCREMENT -1 MINVALUE -9223372036854775808
               MAXVALUE 5 START 5;
             CREATE SEQUENCE ahead; SELECT setval('ahead', 100);
             CREATE SEQUENCE uncalled; SELECT setval('uncalled', 3);
             CREATE SEQUENCE cyclic MAXVALUE 3 CYCLE; SELECT setval('cyclic', 3);
             CREATE TABLE t (i smallint GENERATED ALWAYS AS IDENTITY))");
  pb::SequenceValues values;
  add(values, R"(it's "x"\,{})", 42, true, "Ñ");
  add(values, "largest", kLargest);
  add(values, "down", kSmallest);
  add(values, "ahead", 7);
  add(values, "uncalled", 8, false);
  add(values, "cyclic", 1);
  add(values, "t_i_seq", 32767);
  EXPECT_EQ(set(values).set, 7u);
  EXPECT_EQ(state(R"("Ñ"."it's ""x""\,{}")"), "42 t");
  EXPECT_EQ(state("largest"), "9223372036854775807 t");
  EXPECT_EQ(state("down"), "-9223372036854775808 t");
  EXPECT_EQ(state("ahead"), "7 t");
  EXPECT_EQ(state("uncalled"), "8 f");
  EXPECT_EQ(state("cyclic"), "1 t");
  EXPECT_EQ(state("t_i_seq"), "32767 t");
  EXPECT_EQ(set(values).equal, 7u);
}

TEST_P(SequenceValuesTest, CalledOrNotIsADifference) {
  execute("CREATE SEQUENCE s");
  for (const bool called : {true, false, true}) {
    pb::SequenceValues values;
    add(values, "s", 5, called);
    EXPECT_EQ(set(values).set, 1u);
    EXPECT_EQ(state("s"), called ? "5 t" : "5 f");
    EXPECT_EQ(set(values).equal, 1u);
  }
}

TEST_P(SequenceValuesTest, WhatIsEqualIsNotWritten) {
  constexpr int kSequences = 501;  // more than one statement reads
  execute("CREATE EXTENSION pageinspect");
  execute(
      fmt::format("DO $$ BEGIN FOR i IN 1 .. {} LOOP EXECUTE 'CREATE SEQUENCE s' || i;"
                  " END LOOP; END $$; SELECT nextval('s1')",
                  kSequences));
  pb::SequenceValues values;
  for (int i = 1; i <= kSequences; ++i) add(values, fmt::format("s{}", i), 1, i == 1);
  const auto before = written_at();
  const auto done = set(values);
  EXPECT_EQ(done.equal, static_cast<std::size_t>(kSequences));
  EXPECT_EQ(done.set, 0u);
  EXPECT_EQ(written_at(), before) << "an idle pair writes";
  for (auto& changed : *values.mutable_values()) changed.set_last_value(2);
  EXPECT_EQ(set(values).set, static_cast<std::size_t>(kSequences));
  EXPECT_EQ(state("s501"), "2 f");
  EXPECT_NE(written_at(), before) << "the check sees no difference";
}

TEST_P(SequenceValuesTest, SaysWhatIsMissing) {
  execute("CREATE SEQUENCE s; CREATE TABLE t (a int); CREATE VIEW v AS SELECT 1");
  pb::SequenceValues values;
  for (const char* name : {"S", "t", "v", "nada"}) add(values, name, 5);
  add(values, "s", 5);
  add(values, "s", 5, true, "otra");
  const auto done = set(values);
  EXPECT_EQ(done.missing, (std::vector<std::string>{"public.\"S\"", "public.t", "public.v",
                                                    "public.nada", "otra.s"}));
  EXPECT_EQ(done.set, 1u);
  EXPECT_EQ(set({}).equal, 0u);
}

TEST_P(SequenceValuesTest, AValueOutsideOfTheBoundsIsNamedAndTheOthersAreSet) {
  execute(
      "CREATE SEQUENCE narrow AS smallint; CREATE SEQUENCE down MINVALUE 10; CREATE SEQUENCE s");
  pb::SequenceValues values;
  add(values, "narrow", 40000);
  add(values, "down", 9, false);
  add(values, "s", 5);
  const auto outside = set_sequences(session(), values);
  EXPECT_TRUE(refused(outside, {"public.narrow is at 40000", "from 1 to 32767",
                                "public.down is at 9", "ALTER SEQUENCE"}));
  EXPECT_FALSE(outside.error().heals());
  EXPECT_EQ(state("s"), "5 t");
  EXPECT_EQ(state("narrow"), "1 f");
}

TEST_P(SequenceValuesTest, ALostConnectionHeals) {
  execute("CREATE SEQUENCE s");
  execute("SELECT pg_terminate_backend(" + backend_pid() + ", 10000)");
  pb::SequenceValues values;
  add(values, "s", 5);
  const auto lost = set_sequences(session(), values);
  ASSERT_FALSE(lost.ok());
  EXPECT_EQ(lost.error().code, ErrorCode::kStandby);
  EXPECT_TRUE(lost.error().heals());
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, SequenceValuesTest,
                         testing::ValuesIn(harness::kSupportedVersions),
                         testing::PrintToStringParamName());

class SequenceRights : public StandbyFixture {};

TEST_F(SequenceRights, SaysWhatTheRoleMayNotSet) {
  const auto role = limited_role();
  execute(fmt::format(
      "CREATE SEQUENCE none; CREATE SEQUENCE reads; CREATE SEQUENCE equal; CREATE SEQUENCE fresh;"
      "CREATE SEQUENCE rw; CREATE SEQUENCE blind; CREATE SEQUENCE writes; SELECT setval('equal', "
      "5);"
      "CREATE SCHEMA hidden; CREATE SEQUENCE hidden.s; GRANT ALL ON hidden.s TO {0};"
      "GRANT USAGE ON SCHEMA public TO {0}; GRANT SELECT ON reads, equal, fresh, rw TO {0};"
      "GRANT UPDATE ON rw, writes, blind TO {0}",
      role));
  auto limited = connect(role);
  pb::SequenceValues values;
  for (const char* name : {"none", "reads", "equal", "rw", "writes"}) add(values, name, 5);
  add(values, "fresh", 1, false);
  add(values, "blind", 1, false);  // it is not to be seen that they are equal
  add(values, "s", 5, true, "hidden");
  const auto done = set_sequences(limited, values);
  ASSERT_TRUE(succeeded(done));
  EXPECT_EQ(done->refused, (std::vector<std::string>{"public.none", "public.reads", "hidden.s"}));
  EXPECT_EQ(done->equal, 2u);
  EXPECT_EQ(done->set, 3u);
  EXPECT_EQ(value("SELECT last_value FROM writes"), "5");
}

}  // namespace
}  // namespace bitacora::apply
