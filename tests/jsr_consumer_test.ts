// What somebody gets who imports the package from JSR: the files that would be
// published, and nothing else, served by a registry on loopback to a program in
// an empty folder.

import { assertEquals } from "@std/assert";
import { exports, name, publishedFiles, ROOT, version } from "./package.ts";

/** The program: a server that echoes to one client, and that client. */
const PROGRAM = `
import { Dispatcher, loop } from "jsr:${name}@^${version}";
import { SimNet } from "jsr:${name}@^${version}/testing";

class Echo extends Dispatcher {
  override writable() {
    return false;
  }
  override handleRead() {
    this.send(this.recv());
  }
}

class Server extends Dispatcher {
  constructor() {
    super();
    this.createSocket();
    this.bind({ hostname: "127.0.0.1", port: 0 });
    this.listen();
  }
  override handleAccepted(conn: Deno.Conn) {
    new Echo(conn);
    this.close();
  }
}

class Client extends Dispatcher {
  answer = "";
  constructor(port: number) {
    super();
    this.createSocket();
    this.connect({ hostname: "127.0.0.1", port });
  }
  override writable() {
    return !this.connected;
  }
  override handleConnect() {
    this.send(new TextEncoder().encode("hello"));
  }
  override handleRead() {
    this.answer += new TextDecoder().decode(this.recv());
    if (this.answer.length === 5) this.close();
  }
}

const server = new Server();
const client = new Client((server.localAddr as Deno.NetAddr).port);
await loop();
console.log("echoed", client.answer);

await using net = new SimNet({ seed: 1 });
await net.sleep(1_000_000);
console.log("waited", net.now);
`;

/** The registry's paths and what is there. */
async function registry(): Promise<Map<string, BodyInit>> {
  const found = new Map<string, BodyInit>();
  const manifest: Record<string, { size: number; checksum: string }> = {};
  for (const path of await publishedFiles()) {
    const bytes = await Deno.readFile(new URL(path, ROOT));
    const hash = await crypto.subtle.digest("SHA-256", bytes);
    const checksum = "sha256-" + new Uint8Array(hash).toHex();
    manifest[`/${path}`] = { size: bytes.length, checksum };
    found.set(`/${name}/${version}/${path}`, bytes);
  }
  const [scope, short] = name.slice(1).split("/");
  found.set(
    `/${name}/meta.json`,
    JSON.stringify({ scope, name: short, versions: { [version]: {} } }),
  );
  found.set(
    `/${name}/${version}_meta.json`,
    JSON.stringify({ manifest, exports }),
  );
  return found;
}

Deno.test("the package as published on JSR works in an empty folder", async () => {
  const found = await registry();
  const refused: string[] = [];
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => {
      const { pathname } = new URL(request.url);
      const body = found.get(pathname);
      if (body === undefined) refused.push(pathname);
      return new Response(body ?? null, { status: body ? 200 : 404 });
    },
  );
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/main.ts`, PROGRAM);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      // The types a consumer gets are checked, too.
      args: ["run", "--check", "--quiet", "--allow-net", "main.ts"],
      cwd: folder,
      env: {
        DENO_DIR: `${folder}/cache`,
        DENO_NO_UPDATE_CHECK: "1",
        JSR_URL: `http://127.0.0.1:${server.addr.port}/`,
        NO_COLOR: "1",
      },
      stdin: "null",
      signal: AbortSignal.timeout(60_000),
    }).output();
    const decoder = new TextDecoder();
    assertEquals({
      code,
      stdout: decoder.decode(stdout),
      stderr: decoder.decode(stderr),
    }, { code: 0, stdout: "echoed hello\nwaited 1000000\n", stderr: "" });
    assertEquals(refused, []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
