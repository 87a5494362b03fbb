// One way by which subsets of a database come to others: what follows it, from turn to turn.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/builtin_subscription.h"
#include "bench/cpu_meter.h"
#include "bench/databases.h"
#include "bench/pair.h"

namespace bitacora::bench {

// A database of the standby, and which of the master's tables it has.
struct Subset {
  std::string database;
  std::vector<int> tables;
};

std::string subset_table(int number);  // public.part_N is called part_N

// Has a database of its own on the master, with all tables, and one per subset on the standby.
class SubsetFollower {
 public:
  SubsetFollower(const Servers& servers, std::string name, int tables, std::vector<Subset> subsets);
  SubsetFollower(const SubsetFollower&) = delete;
  SubsetFollower& operator=(const SubsetFollower&) = delete;
  virtual ~SubsetFollower() = default;

  virtual void follow() = 0;
  virtual void leave() = 0;
  virtual void throw_if_failed() = 0;
  virtual void watch(CpuMeter& meter) = 0;
  // Each of them is read for as it is meant to be.
  virtual bool settled() { return true; }

  const std::string& name() const { return name_; }
  std::string master() const { return servers_.master.conninfo(name_); }
  // Marks every table, and waits until every subset shows it.
  void await_everything();
  // Throws when a subset does not hold the master's rows.
  void compare() const;

 protected:
  std::string standby(const Subset& subset) const {
    return servers_.standby.conninfo(subset.database);
  }
  const std::vector<Subset>& subsets() const { return subsets_; }
  const Servers& servers() const { return servers_; }

 private:
  Servers servers_;
  const std::string name_;
  const int tables_;
  const std::vector<Subset> subsets_;
  int marks_ = 0;
};

// A sender, and a receiver per subset.
class ReceiverFollower : public SubsetFollower {
 public:
  ReceiverFollower(const Servers& servers, const std::string& name, int tables,
                   std::vector<Subset> subsets);

  void follow() override;
  void leave() override;
  void throw_if_failed() override;
  void watch(CpuMeter& meter) override;
  bool settled() override;

 private:
  WorkingDirectory directory_;
  Sender sender_;
  std::vector<std::unique_ptr<Receiver>> receivers_;
};

// A publication, a slot and a subscription per subset.
class SubscriptionFollower : public SubsetFollower {
 public:
  SubscriptionFollower(const Servers& servers, const std::string& name, int tables,
                       std::vector<Subset> subsets);

  void follow() override;
  void leave() override;
  void throw_if_failed() override;
  void watch(CpuMeter& /*meter*/) override {}

 private:
  std::vector<std::unique_ptr<BuiltinSubscription>> subscriptions_;
};

}  // namespace bitacora::bench
