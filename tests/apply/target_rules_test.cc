#include "apply/target_rules.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/name_pattern.h"

namespace bitacora::apply {
namespace {

pb::Relation relation(const std::vector<std::pair<std::string, bool>>& columns,
                      pb::ReplicaIdentity identity = pb::REPLICA_IDENTITY_DEFAULT) {
  pb::Relation relation;
  relation.set_oid(17);
  relation.set_schema("shop");
  relation.set_name("orders");
  relation.set_replica_identity(identity);
  for (const auto& [name, key] : columns) {
    auto* column = relation.add_columns();
    column->set_name(name);
    column->set_type_oid(23);
    column->set_key(key);
  }
  return relation;
}

// name, with * when it is part of the key.
std::string spelled(const pb::Relation& relation) {
  std::string text = relation.schema() + "." + relation.name() + ":";
  for (const auto& column : relation.columns())
    text += " " + column.name() + (column.key() ? "*" : "");
  return text;
}

const TargetName kOrders{"shop", "orders"};

TEST(TargetRules, WithoutRulesNothingChanges) {
  const TargetRules rules;
  const auto source = relation({{"id", true}, {"total", false}});
  const auto shaped = rules.shape(source);
  ASSERT_TRUE(shaped.ok());
  EXPECT_EQ(shaped->relation.SerializeAsString(), source.SerializeAsString());
  EXPECT_FALSE(shaped->reshaped(source));
  EXPECT_FALSE(rules.renames("shop", "orders"));
  EXPECT_TRUE(rules.renamed_patterns().empty());
}

TEST(TargetRules, RenamesLeavesOutAndAdds) {
  TargetRules rules;
  rules.rename_schema("shop", "tienda");
  rules.add({.source = kOrders,
             .to = TargetName{"ventas", "pedidos"},
             .columns = {{"total", "importe"}},
             .left_out = {"note"},
             .constants = {{"region", "eu"}, {"\"odd", "it's \\"}}});
  const auto source = relation({{"note", false}, {"id", true}, {"total", false}});
  const auto shaped = rules.shape(source);
  ASSERT_TRUE(shaped.ok());
  EXPECT_EQ(spelled(shaped->relation), "ventas.pedidos: id* importe \"odd* region*");
  EXPECT_EQ(shaped->sources, (std::vector<std::size_t>{1, 2}));
  EXPECT_EQ(shaped->constants, (std::vector<std::string>{"it's \\", "eu"}));
  EXPECT_TRUE(shaped->reshaped(source));
  EXPECT_FALSE(shaped->mingled);
  EXPECT_EQ(rules.own_rows("shop", "orders"), R"("""odd" =  E'it''s \\' AND "region" = 'eu')");
  EXPECT_EQ(rules.target("shop", "other"), (TargetName{"tienda", "other"}));
  EXPECT_EQ(rules.target("public", "other"), (TargetName{"public", "other"}));
  EXPECT_EQ(rules.renamed_patterns(), (std::vector<std::string>{"shop.*", "shop.orders"}));
}

TEST(TargetRules, PatternsOfRenamedTablesMeanThemAlone) {
  TargetRules rules;
  rules.rename_schema("old.shop", "shop");
  for (const char* table : {"a.b", "c*", "d?", "e\"f"})
    rules.add({.source = {"public", table}, .to = TargetName{"public", "other"}});
  const auto patterns = TablePatterns::parse(rules.renamed_patterns());
  ASSERT_TRUE(patterns.ok()) << patterns.error().message;
  for (const char* table : {"a.b", "c*", "d?", "e\"f"})
    EXPECT_TRUE(patterns->matches("public", table)) << table;
  for (const char* table : {"axb", "a", "cc", "c", "dd", "ef"})
    EXPECT_FALSE(patterns->matches("public", table)) << table;
  EXPECT_TRUE(patterns->matches("old.shop", "any"));
  EXPECT_FALSE(patterns->matches("old", "shop.any"));
}

// Without a key nothing is found by one: whole rows are.
TEST(TargetRules, AConstantIsPartOfAKeyThatThereIs) {
  TargetRules rules;
  rules.add({.source = kOrders, .constants = {{"region", "eu"}}});
  const auto shaped = rules.shape(relation({{"a", false}}));
  ASSERT_TRUE(shaped.ok());
  EXPECT_EQ(spelled(shaped->relation), "shop.orders: a region");
}

TEST(TargetRules, ColumnsMaySwapNames) {
  TargetRules rules;
  rules.add({.source = kOrders, .columns = {{"a", "b"}, {"b", "a"}}});
  const auto shaped = rules.shape(relation({{"a", true}, {"b", false}}));
  ASSERT_TRUE(shaped.ok()) << shaped.error().message;
  EXPECT_EQ(spelled(shaped->relation), "shop.orders: b* a");
}

TEST(TargetRules, RefusesWhatContradictsItself) {
  struct Case {
    const char* name;
    TableRule rule;
    std::vector<const char*> words;
  };
  const std::vector<Case> cases = {
      {"onto an existing column",
       {.source = kOrders, .columns = {{"total", "id"}}},
       {"shop.orders", "column total", "id"}},
      {"before an existing column",
       {.source = kOrders, .columns = {{"id", "total"}}},
       {"shop.orders", "column total", "total"}},
      {"two onto one",
       {.source = kOrders, .columns = {{"id", "x"}, {"total", "x"}}},
       {"shop.orders", "column total", "x"}},
      {"a constant onto a column",
       {.source = kOrders, .constants = {{"total", "1"}}},
       {"shop.orders", "constant", "total"}},
      {"the key left out",
       {.source = kOrders, .left_out = {"id"}},
       {"shop.orders", "id", "replica identity"}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    TargetRules rules;
    rules.add(c.rule);
    const auto shaped = rules.shape(relation({{"id", true}, {"total", false}}));
    ASSERT_FALSE(shaped.ok());
    EXPECT_EQ(shaped.error().code, ErrorCode::kConfiguration);
    EXPECT_FALSE(shaped.error().hint.empty());
    for (const auto* word : c.words)
      EXPECT_NE(shaped.error().message.find(word), std::string::npos) << shaped.error().message;
  }
}

TEST(TargetRules, FullIdentityFindsRowsByWhatIsLeft) {
  TargetRules rules;
  rules.add({.source = kOrders, .left_out = {"id"}});
  const auto shaped =
      rules.shape(relation({{"id", true}, {"total", true}}, pb::REPLICA_IDENTITY_FULL));
  ASSERT_TRUE(shaped.ok());
  EXPECT_EQ(spelled(shaped->relation), "shop.orders: total*");
}

TEST(TargetRules, RowsOfOthersAreToldApartByConstantsOnly) {
  const TargetName both{"public", "all_orders"};
  const auto rule = [&](const char* table, std::map<std::string, std::string> constants) {
    return TableRule{
        .source = {"shop", table}, .to = both, .constants = std::move(constants), .shared = true};
  };
  TargetRules apart;
  apart.add(rule("a", {{"region", "eu"}}));
  apart.add(rule("b", {{"region", "us"}}));
  EXPECT_TRUE(apart.may_share({"shop", "a"}, {"shop", "b"}));
  EXPECT_FALSE(apart.mingles("shop", "a"));
  EXPECT_TRUE(apart.mingled().empty());

  TargetRules equal;
  equal.add(rule("a", {{"region", "eu"}}));
  equal.add(rule("b", {{"region", "eu"}}));
  EXPECT_TRUE(equal.mingles("shop", "a"));
  EXPECT_EQ(equal.mingled(), (std::vector<TargetName>{{"shop", "a"}, {"shop", "b"}}));

  TargetRules none;
  none.add(rule("a", {}));
  EXPECT_TRUE(none.mingles("shop", "a")) << "another master's receiver may write it";
  EXPECT_FALSE(none.may_share({"shop", "a"}, {"shop", "b"})) << "b does not say so";
}

TEST(TargetRules, KnowsRulesThatConcernNothing) {
  TargetRules rules;
  rules.rename_schema("shop", "tienda");
  rules.rename_schema("shpo", "tienda");
  rules.add({.source = kOrders, .columns = {{"id", "x"}, {"tota", "y"}}, .left_out = {"nite"}});
  rules.add({.source = {"shop", "order"}});
  EXPECT_EQ(rules.unused({relation({{"id", true}, {"total", false}})}),
            (std::vector<std::string>{"[schemas] shpo", "[table.'shop.order']",
                                      "[table.'shop.orders'] columns tota",
                                      "[table.'shop.orders'] leave_out nite"}));
}

}  // namespace
}  // namespace bitacora::apply
