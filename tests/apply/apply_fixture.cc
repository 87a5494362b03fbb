#include "tests/apply/apply_fixture.h"

#include <stdexcept>

#include "tests/postgres/pair.h"

namespace bitacora::apply {
namespace {

template <class T>
T value_or_throw(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(one_line(result.error()));
  return std::move(result).value();
}

void must(const Result<void>& result) {
  if (!result.ok()) throw std::runtime_error(one_line(result.error()));
}

ApplierOptions named(ApplierOptions options, const std::string& conninfo) {
  options.subscription = kSubscription;
  options.conninfo = conninfo;
  return options;
}

std::vector<StandbySession> connected(const std::string& conninfo, unsigned count) {
  std::vector<StandbySession> sessions;
  while (sessions.size() < count)
    sessions.push_back(value_or_throw(StandbySession::connect(conninfo, "apply test")));
  return sessions;
}

Progress first_progress() {
  Progress progress;
  progress.identity.set_system_identifier(18446744073709551615u);
  progress.identity.set_database("tienda");
  progress.identity.set_slot("bitacora_prueba");
  progress.identity.set_stream("prueba");
  progress.applied_lsn = PlayedMaster::kStart;
  return progress;
}

}  // namespace

ApplySession::ApplySession(const std::string& conninfo, ApplierOptions options,
                           TablePatterns tables, unsigned workers)
    : session_(value_or_throw(StandbySession::connect(conninfo, "apply test"))),
      catalog_(conninfo),
      tables_(catalog_, {std::move(tables)}),
      others_(connected(conninfo, workers - 1)),
      applier_(session_, tables_, named(std::move(options), conninfo), from(), others_) {
  must(applier_.start());
}

MasterLsn ApplySession::from() {
  auto row = value_or_throw(load_progress(session_, kSubscription));
  if (!row) {
    must(create_progress(session_, kSubscription, first_progress()));
    row = value_or_throw(load_progress(session_, kSubscription));
  }
  return row->applied_lsn;
}

ApplyTest::ApplyTest()
    : master_(harness::fresh_database(harness::shared_standby(), "m_" + harness::case_name())),
      standby_(harness::fresh_database(harness::shared_standby(), "s_" + harness::case_name())) {
  for (const auto& conninfo : {master_, standby_}) {  // nothing here has to survive a crash
    harness::execute(conninfo,
                     "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET"
                     " synchronous_commit = off', current_database()); END $$");
  }
}

void ApplyTest::on_both(PlayedMaster& master, const std::string& sql) const {
  master.execute(sql);
  on_standby(sql);
}

std::string ApplyTest::standby_value(const std::string& sql) const {
  return harness::query_value(standby_, sql);
}

std::string ApplyTest::content(const std::string& table) const {
  return harness::table_content(standby_, table);
}

void ApplyTest::clear() const {
  for (const auto& conninfo : {master_, standby_}) {
    harness::execute(conninfo,
                     "SET client_min_messages = warning; DROP SCHEMA public CASCADE;"
                     "CREATE SCHEMA public; DROP SCHEMA IF EXISTS bitacora CASCADE");
  }
}

std::string ApplyTest::progress() const {
  return standby_value("SELECT applied_lsn FROM bitacora.progress WHERE subscription = 'prueba'");
}

}  // namespace bitacora::apply
