#include "tests/equivalence/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include "tests/equivalence/moves.h"
#include "tests/simulator/chance.h"

namespace bitacora::equivalence {
namespace {

using Names = std::set<std::string>;

// What one connection to the master is in the middle of.
struct Session {
  bool open = false;
  std::string prepared;  // the global id of a prepared transaction
  std::vector<std::string> savepoints;
  std::optional<std::size_t> row_class;  // a transaction that keeps to one class
  std::size_t moves_left = 0;            // in this transaction
  std::size_t transactions_left = 0;
  Names touched;  // by the open transaction
  Names emptied;  // and locked against everybody else

  bool done() const { return !open && prepared.empty() && transactions_left == 0; }
};

class Generator {
 public:
  Generator(std::uint64_t seed, Partitions partitions)
      : chance_(seed, false), partitions_(partitions) {
    history_.seed = seed;
    history_.delivery = chance_.one_in(25)  ? Delivery::kLate
                        : chance_.one_in(2) ? Delivery::kHeld
                                            : Delivery::kLive;
    history_.population = population(chance_);
    choose_subjects();
  }

  History run() {
    for (auto rounds = chance_.between(1, 6); rounds > 0; --rounds) play_round();
    return std::move(history_);
  }

 private:
  // Few tables, so that what happens to them meets.
  void choose_subjects() {
    const auto& all = subjects();
    const auto count = chance_.one_in(8) ? all.size() : chance_.between(1, 6);
    for (std::size_t i = 0; i < count; ++i) {
      chosen_.push_back(count == all.size() ? &all[i] : &all[chance_.below(all.size())]);
    }
    if (partitions_ == Partitions::kAlike) return;
    for (const auto& subject : all) {
      if (subject.name == "parted" || subject.name == "regional") chosen_.push_back(&subject);
    }
  }

  // A round's sessions share out the classes among them; nothing is open between two rounds.
  void play_round() {
    sessions_.assign(chance_.between(1, kSessionsMax), {});
    for (auto& session : sessions_) session.transactions_left = chance_.between(1, 6);
    for (;;) {
      std::vector<std::size_t> busy;
      for (std::size_t i = 0; i < sessions_.size(); ++i) {
        if (!sessions_[i].done()) busy.push_back(i);
      }
      if (busy.empty()) return;
      step(busy[chance_.below(busy.size())]);
    }
  }

  void step(std::size_t index) {
    Session& session = sessions_[index];
    if (!session.prepared.empty()) {
      emit(index, (chance_.one_in(4) ? "ROLLBACK" : "COMMIT") +
                      fmt::format(" PREPARED '{}'", std::exchange(session.prepared, {})));
      session.touched.clear();
      session.emptied.clear();
    } else if (!session.open) {
      begin(index);
    } else if (session.moves_left == 0) {
      end(index);
    } else {
      --session.moves_left;
      if (chance_.one_in(4)) subtransaction(index);
      move(index);
    }
  }

  void begin(std::size_t index) {
    Session& session = sessions_[index];
    --session.transactions_left;
    session.row_class.reset();
    if (chance_.one_in(4)) {  // a transaction of one query
      move(index);
      session.touched.clear();
      session.emptied.clear();
      return;
    }
    if (chance_.one_in(2)) session.row_class = some_class(index);
    session.moves_left = chance_.one_in(10) ? chance_.between(20, 40) : chance_.between(1, 8);
    session.open = true;
    emit(index, "BEGIN");
  }

  void end(std::size_t index) {
    Session& session = sessions_[index];
    session.open = false;
    session.savepoints.clear();
    if (chance_.one_in(12)) {
      session.prepared = fmt::format("p{}", ++names_);
      emit(index, fmt::format("PREPARE TRANSACTION '{}'", session.prepared));
      return;
    }
    emit(index, chance_.one_in(8) ? "ROLLBACK" : "COMMIT");
    session.touched.clear();
    session.emptied.clear();
  }

  void subtransaction(std::size_t index) {
    auto& savepoints = sessions_[index].savepoints;
    if (savepoints.empty() || chance_.one_in(2)) {
      savepoints.push_back(fmt::format("s{}", ++names_));
      emit(index, "SAVEPOINT " + savepoints.back());
      return;
    }
    const auto chosen = static_cast<std::ptrdiff_t>(chance_.below(savepoints.size()));
    const auto kept = chance_.one_in(3) ? chosen : chosen + 1;  // a released one is gone itself
    emit(index, (kept == chosen ? "RELEASE " : "ROLLBACK TO ") +
                    savepoints[static_cast<std::size_t>(chosen)]);
    savepoints.erase(savepoints.begin() + kept, savepoints.end());
  }

  void move(std::size_t index) {
    Session& session = sessions_[index];
    for (int attempt = 0; attempt < 5; ++attempt) {
      const auto& subject = *chosen_[chance_.below(chosen_.size())];
      const auto& chosen = subject.moves[chance_.below(subject.moves.size())];
      if (chosen.of_one_partition && partitions_ == Partitions::kOfTheirOwn) continue;
      if (!lock(index, subject.name, chosen.emptied)) continue;
      auto sql = filled(chosen, session.row_class.value_or(some_class(index)), chance_);
      if (chance_.one_in(20)) sql = undone_in_a_block(sql);
      emit(index, sql);
      return;
    }
  }

  // A subtransaction that PL/pgSQL makes and rolls back.
  static std::string undone_in_a_block(const std::string& sql) {
    return fmt::format(
        "DO $$ BEGIN BEGIN {}; RAISE 'undone'; EXCEPTION WHEN raise_exception THEN NULL; END; END "
        "$$",
        sql);
  }

  // False when another session's transaction would make this one wait.
  bool lock(std::size_t index, const std::string& subject,
            const std::vector<std::string>& emptied) {
    for (std::size_t i = 0; i < sessions_.size(); ++i) {
      const auto& other = sessions_[i];
      if (i == index) continue;
      if (other.emptied.contains(subject)) return false;
      for (const auto& name : emptied) {
        if (other.touched.contains(name)) return false;
      }
    }
    auto& session = sessions_[index];
    session.touched.insert(subject);
    session.touched.insert(emptied.begin(), emptied.end());
    session.emptied.insert(emptied.begin(), emptied.end());
    return true;
  }

  std::size_t some_class(std::size_t index) {
    const auto owned = kClasses / sessions_.size();
    const auto which = chance_.one_in(2) ? 0 : chance_.below(owned);  // one more often
    return index + sessions_.size() * which;
  }

  void emit(std::size_t index, std::string sql) {
    history_.steps.push_back({index, std::move(sql)});
  }

  Chance chance_;
  const Partitions partitions_;
  History history_;
  std::vector<const Subject*> chosen_;
  std::vector<Session> sessions_;
  std::size_t names_ = 0;
};

}  // namespace

const char* name_of(Delivery delivery) {
  switch (delivery) {
    case Delivery::kLive:
      return "live";
    case Delivery::kHeld:
      return "held";
    case Delivery::kLate:
      return "late";
  }
  return "";
}

std::string History::sql() const {
  std::string text = "-- before\n" + population + ";\n";
  text += fmt::format("-- then, {}; the number is the session's\n", name_of(delivery));
  for (const auto& [session, statement] : steps)
    text += fmt::format("/* {} */ {};\n", session, statement);
  return text;
}

History make_history(std::uint64_t seed, Partitions partitions) {
  return Generator(seed, partitions).run();
}

}  // namespace bitacora::equivalence
