#include "apply/schema_entry.h"

#include <gtest/gtest.h>

namespace bitacora::apply {
namespace {

TEST(SchemaEntry, KnowsWhatBuildsAnIndexAndOfWhichTable) {
  struct Case {
    const char* type;
    const char* sql;
    bool builds;
    const char* table;
  };
  for (const Case& c : {
           Case{"INDEX", "CREATE INDEX i ON public.t USING btree (a);\n", true, "public.t"},
           Case{"INDEX", "CREATE UNIQUE INDEX \"i ON x\" ON ONLY \"S p\".\"t(\"\"\" USING gin (a);",
                true, "\"S p\".\"t(\"\"\""},
           Case{"INDEX",
                "--\n-- Name: i; Type: INDEX\n--\n\nSET default_tablespace = '';\n\n"
                "CREATE INDEX i ON public.t USING btree (a);\n\n"
                "ALTER TABLE public.t CLUSTER ON i;\n",
                true, "public.t"},
           Case{"CONSTRAINT",
                "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a);", true,
                "public.t"},
           Case{"CONSTRAINT", "ALTER TABLE public.t ADD CONSTRAINT \"a UNIQUE (b)\" CHECK (true);",
                false, "public.t"},
           Case{"CONSTRAINT",
                "ALTER TABLE ONLY \"T\"\n    ADD CONSTRAINT k UNIQUE NULLS NOT DISTINCT (a);", true,
                "\"T\""},
           Case{"CONSTRAINT", "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT e EXCLUDE USING gist (a);",
                true, "s.t"},
           Case{"CONSTRAINT", "ALTER TABLE s.t\n    ADD CONSTRAINT n NOT NULL a NOT VALID;", false,
                "s.t"},
           Case{"FK CONSTRAINT",
                "ALTER TABLE ONLY s.t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u;", false,
                "s.t"},
           Case{"INDEX ATTACH", "ALTER INDEX public.p ATTACH PARTITION public.c;", false, ""},
           Case{"TRIGGER", "CREATE TRIGGER x BEFORE INSERT ON public.t", false, ""},
           Case{"CONSTRAINT", "ALTER TABLE", false, ""},
           Case{"INDEX", "CREATE INDEX", true, ""},
           Case{"RULE", "", false, ""},
           Case{"RULE", "\n\n", false, ""},
       }) {
    SCOPED_TRACE(c.sql);
    EXPECT_EQ(builds_an_index(c.type, c.sql), c.builds);
    EXPECT_EQ(table_of(c.sql), c.table);
  }
}

TEST(SchemaEntry, KnowsWhatIsThereAlready) {
  EXPECT_TRUE(there_already("SCHEMA", "42P06"));
  EXPECT_TRUE(there_already("TABLE", "42P07"));
  EXPECT_FALSE(there_already("TABLE", "42710")) << "a type of its name";
  EXPECT_TRUE(there_already("TYPE", "42710"));
  EXPECT_TRUE(there_already("FUNCTION", "42723"));
  EXPECT_FALSE(there_already("CONSTRAINT", "42P16")) << "another primary key";
  EXPECT_FALSE(there_already("TABLE", "")) << "a lost connection";
}

}  // namespace
}  // namespace bitacora::apply
