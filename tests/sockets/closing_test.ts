import { assertThrows } from "@std/assert";
import { closeResource } from "../../sockets/closing.ts";

Deno.test("closeResource() takes a resource that is closed already for closed", () => {
  closeResource({
    close() {
      throw new Deno.errors.BadResource("Bad resource ID");
    },
  });
});

Deno.test("closeResource() hides no other error", () => {
  assertThrows(
    () =>
      closeResource({
        close() {
          throw new Deno.errors.Interrupted("mine");
        },
      }),
    Deno.errors.Interrupted,
    "mine",
  );
});
