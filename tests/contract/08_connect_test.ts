import { assertEquals } from "@std/assert";
import { settle, text, World } from "../fakes.ts";
import { connecting } from "./traced.ts";

Deno.test("8 connect: a handleConnect that takes the data is not followed by a handleRead with nothing there", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  channel.onConnect = () => channel.note(`connect ${text(channel.recv())}`);
  await world.serve();
  const conn = world.system.connects[0]!.succeed();
  // With writable() false the first event is the greeting.
  await settle();
  assertEquals(world.take(), []);
  conn.deliver("greeting");
  await settle();
  assertEquals([world.take(), channel.connected], [
    ["a connect greeting"],
    true,
  ]);
  conn.deliver("more");
  await settle();
  assertEquals(world.take(), ["a read more"]);
  await world.stop();
});

Deno.test("8 connect: a handleConnect that takes a part of the data is followed by handleRead with the rest", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  channel.onConnect = () => channel.note(`connect ${text(channel.recv(5))}`);
  await world.serve();
  world.system.connects[0]!.succeed().deliver("greeting");
  await settle();
  assertEquals(world.take(), ["a connect greet", "a read ing"]);
  await world.stop();
});

Deno.test("8 connect: a handleConnect that fills the send buffer is followed by handleWrite when half of it is free", async () => {
  const world = new World();
  const channel = connecting(world, "a");
  channel.sendBufferSize = 4;
  channel.wantsWrite = true;
  channel.onConnect = () => channel.note(`connect ${channel.say("1234")}`);
  channel.onWrite = () => {
    channel.note(`write, room ${channel.room}`);
    channel.wantsWrite = false;
  };
  await world.serve();
  const conn = world.system.connects[0]!.succeed();
  conn.onWrite = "wait";
  await settle();
  assertEquals(world.take(), ["a connect 4"]);
  conn.release();
  await settle();
  assertEquals(world.take(), ["a write, room 4"]);
  await world.stop();
});
