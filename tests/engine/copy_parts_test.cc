#include "engine/copy_parts.h"

#include <gtest/gtest.h>

namespace bitacora::engine {
namespace {

pb::CopyTablePlan plan_of(std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> pieces) {
  pb::CopyTablePlan plan;
  std::uint32_t oid = 100;
  for (const auto& [pages, bytes] : pieces) {
    auto* piece = plan.add_pieces();
    piece->set_oid(oid++);
    piece->set_pages(pages);
    piece->set_bytes(bytes);
  }
  return plan;
}

std::string shown(const std::vector<apply::CopiedPart>& parts) {
  std::string text;
  for (const auto& part : parts) {
    text += std::to_string(part.piece) + ":" + std::to_string(part.begin_page) + "-" +
            (part.end_page == 0 ? "" : std::to_string(part.end_page)) + " ";
  }
  return text;
}

TEST(CopyParts, CoverEveryPageOnce) {
  struct Case {
    const char* name;
    pb::CopyTablePlan plan;
    std::uint64_t bytes_max;
    const char* parts;
  };
  for (const Case& c :
       {Case{"no pieces", plan_of({}), 100, ""},
        Case{"an empty table is a part too", plan_of({{0, 0}}), 100, "100:0- "},
        Case{"just fits", plan_of({{10, 100}}), 100, "100:0- "},
        Case{"one byte more", plan_of({{10, 101}}), 100, "100:0-5 100:5- "},
        Case{"uneven", plan_of({{10, 300}}), 100, "100:0-3 100:3-6 100:6- "},
        Case{"never more than pages", plan_of({{2, 1000}}), 100, "100:0-1 100:1- "},
        Case{"all bytes in TOAST", plan_of({{0, 1000}}), 100, "100:0- "},
        Case{"two pieces", plan_of({{4, 200}, {1, 1}}), 100, "100:0-2 100:2- 101:0- "}}) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(shown(split_into_parts(c.plan, c.bytes_max)), c.parts);
  }
}

TEST(CopyParts, OnlyWhatIsMissingIsCopied) {
  const auto all = split_into_parts(plan_of({{10, 300}}), 100);
  EXPECT_EQ(shown(missing_parts(all, {}).value()), "100:0-3 100:3-6 100:6- ");
  EXPECT_EQ(shown(missing_parts(all, {all[1]}).value()), "100:0-3 100:6- ");
  EXPECT_EQ(shown(missing_parts(all, all).value()), "");
  EXPECT_FALSE(missing_parts(all, split_into_parts(plan_of({{10, 300}}), 150)).has_value())
      << "another division: some pages would come twice";
}

}  // namespace
}  // namespace bitacora::engine
