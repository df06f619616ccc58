/**
 * What is said to a web server, and what it answers.
 *
 * @module
 */

export const HELLO = "hello, world\n";
export const MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT";

/** A request, its last line end included. */
export function request(line: string, ...fields: string[]): string {
  return [line, ...fields, "", ""].join("\r\n");
}

/** A request as a client of HTTP/1.1 makes it. */
export function get(target: string, ...fields: string[]): string {
  return request(`GET ${target} HTTP/1.1`, "Host: x", ...fields);
}

const GET = "GET / HTTP/1.1";
export const HOST = "Host: example.com:80";
export const long = (length: number) => "x".repeat(length);
const fieldsOf = (count: number, length: number) =>
  Array.from({ length: count }, (_, i) => `X-${i}: ${long(length)}`);

/** Requests that are answered by an error, after which the connection is closed. */
export const REFUSED: readonly (readonly [number, string])[] = [
  // The request line.
  [400, request("GET /", HOST)],
  [400, request("GET  / HTTP/1.1", HOST)],
  [400, request("GET / HTTP/1.1 ", HOST)],
  [400, request(" GET / HTTP/1.1", HOST)],
  [400, request("GET /a b HTTP/1.1", HOST)],
  [400, request("GET\t/ HTTP/1.1", HOST)],
  [400, request("G(T / HTTP/1.1", HOST)],
  [400, request("GET / HTTP/1", HOST)],
  [400, request("GET / HTTP/1.10", HOST)],
  [400, request("GET / http/1.1", HOST)],
  [400, request("GET /\0 HTTP/1.1", HOST)],
  [400, request("GET /\xe9 HTTP/1.1", HOST)],
  [400, request("GET / HTTP/1.1\nHost: x")],
  [400, "\x16\x03\x01\x02\x00\x01\x00\r\n"],
  [505, request("GET / HTTP/2.0", HOST)],
  [505, request("GET / HTTP/0.9", HOST)],
  [505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
  [414, request(`GET /${long(8_192)} HTTP/1.1`, HOST)],
  [414, long(8_193)],
  // Header fields.
  [400, request(GET)],
  [400, request(GET, "Host: a", "Host: a")],
  [400, request(GET, "Host: a b")],
  [400, request(GET, "Host: a/b")],
  [400, request("GET / HTTP/1.0", "Host: a", "Host: b")],
  [400, request(GET, HOST, "no colon")],
  [400, request(GET, HOST, "X : space before the colon")],
  [400, request(GET, HOST, "X: a", " folded")],
  [400, request(GET, HOST, ": no name")],
  [400, request(GET, HOST, "X: \0")],
  [400, request(GET, HOST, "X: a\rY: b")],
  [400, request(GET, HOST, "X: a\nY: b")],
  [431, request(GET, HOST, `X: ${long(16_384)}`)],
  [431, request(GET, HOST, ...fieldsOf(20, 1_000))],
  [431, request(GET, HOST, ...fieldsOf(100, 1))],
  [431, `${GET}\r\n${long(16_385)}`],
  // Where the body ends must be beyond doubt.
  [400, request(GET, HOST, "Content-Length: x")],
  [400, request(GET, HOST, "Content-Length: -1")],
  [400, request(GET, HOST, "Content-Length: +1")],
  [400, request(GET, HOST, "Content-Length: 1e1")],
  [400, request(GET, HOST, "Content-Length:")],
  [400, request(GET, HOST, "Content-Length: 1, 1")],
  [400, request(GET, HOST, "Content-Length: 1", "Content-Length: 1")],
  [
    400,
    request(GET, HOST, "Content-Length: 1", "Transfer-Encoding: chunked"),
  ],
  [
    400,
    request(GET, HOST, "Transfer-Encoding: chunked", "Content-Length: 1"),
  ],
  [400, request("GET / HTTP/1.0", HOST, "Transfer-Encoding: chunked")],
  [501, request(GET, HOST, "Transfer-Encoding: gzip, chunked")],
  [501, request(GET, HOST, "Transfer-Encoding: xchunked")],
  [
    400,
    request(GET, HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: x"),
  ],
  [413, request(GET, HOST, "Content-Length: 1048577")],
  [413, request(GET, HOST, `Content-Length: ${"9".repeat(400)}`)],
  ...[
    [400, "\r\n"],
    [400, "x\r\n"],
    [400, "-1\r\n"],
    [400, "0x1\r\n"],
    [400, "1 1\r\n"],
    [400, "1;\0\r\n"],
    [400, "2\r\nabc\r\n"],
    [400, "2\r\nab\n0\r\n\r\n"],
    [400, "0\r\nno colon\r\n"],
    [400, `1;${long(256)}\r\n`],
    [413, "100001\r\n"],
    [413, `${"F".repeat(200)}\r\n`],
    [431, `0\r\n${long(16_385)}`],
  ].map(([status, body]) =>
    [
      status as number,
      request(GET, HOST, "Transfer-Encoding: chunked") + body,
    ] as const
  ),
];

/** A request, in which ETAG is what a file has, and the answer to it. */
type Case = readonly [
  said: string,
  status: number,
  fields?: Readonly<Record<string, string | undefined>>,
  body?: string,
];

/** Requests that are answered, by something or by an error, and then comes the next one. */
export const ANSWERED: readonly Case[] = [
  [
    get("/hello.txt"),
    200,
    {
      "content-type": "text/plain; charset=utf-8",
      "content-length": "13",
      "last-modified": MODIFIED,
      "accept-ranges": "bytes",
      "connection": undefined,
    },
    HELLO,
  ],
  [get("/"), 200, { "content-type": "text/html; charset=utf-8" }],
  [get("/empty.txt"), 200, {}, ""],
  [get("/inside"), 200, {}, HELLO],
  [get("/folder/"), 200, {}, "in the folder\n"],
  [get("/hello.txt?/../x%zz"), 200, {}, HELLO],
  [get("/%68ello%2Etxt"), 200, {}, HELLO],
  [get("/a%20b%20%C3%A9%20%25.txt"), 200, {}, "a name\n"],
  [get("/.well-known/security.txt"), 200, {}, "known\n"],
  [get("http://elsewhere/hello.txt"), 200, {}, HELLO],
  [get("HTTP://elsewhere"), 200],
  [get("http://elsewhere?x"), 200],
  [`\r\n\r\n${get("/hello.txt")}`, 200, {}, HELLO],
  [request("GET /hello.txt HTTP/1.9", HOST), 200, {}, HELLO],
  [request(GET, "hOsT:example.com\t "), 200],
  [request(GET, "Host:"), 200],
  [get("/", ...fieldsOf(99, 1)), 200],
  // Folders.
  [get("/folder"), 301, { "location": "/folder/" }],
  [get("/folder?a=b"), 301, { "location": "/folder/?a=b" }],
  [get("/empty/"), 404],
  [get("/odd/"), 404],
  [get("/hello.txt/"), 404],
  [get("/hello.txt/x"), 404],
  [get("/nowhere"), 404],
  [get(`/${long(300)}`), 404],
  [get(`/${long(5_000)}`), 404],
  // Nothing out of the folder, and nothing hidden.
  [get("/../secret"), 404],
  [get("/folder/../../secret"), 404],
  [get("/folder/../hello.txt"), 404],
  [get("/%2e%2e/secret"), 404],
  [get("/%2E./secret"), 404],
  [get("/..%2fsecret"), 404],
  [get("/folder%2f..%2f..%2fsecret"), 404],
  [get("/folder%2findex.html"), 404],
  [get("/..\\secret"), 404],
  [get("/..%5csecret"), 404],
  [get("/%252e%252e/secret"), 404],
  [get("/./hello.txt"), 404],
  [get("//hello.txt"), 404],
  [get("//example.com/folder"), 404],
  [get("/.hidden"), 404],
  [get("/%2ehidden"), 404],
  [get("/outside"), 404],
  [get("/backup/secret"), 404],
  [get("/backup"), 404],
  [get("/loop"), 404],
  [get("/hello.txt%00"), 400],
  [get("/%"), 400],
  [get("/%4"), 400],
  [get("/%zz"), 400],
  [get("/%ff"), 400],
  [get("/#fragment"), 400],
  [get("hello.txt"), 400],
  [get("?x"), 400],
  [get("*"), 400],
  // Methods.
  [
    request("POST / HTTP/1.1", HOST, "Content-Length: 3") + "abc",
    405,
    { "allow": "GET, HEAD" },
  ],
  [request("OPTIONS * HTTP/1.1", HOST), 405],
  [request("DELETE / HTTP/1.1", HOST), 405],
  [request("BREW / HTTP/1.1", HOST), 501],
  [request("get / HTTP/1.1", HOST), 501],
  // Bodies that nobody needs.
  [get("/hello.txt", "Content-Length: 5") + "GET /", 200, {}, HELLO],
  [get("/hello.txt", "Content-Length: 0"), 200, {}, HELLO],
  [
    get("/hello.txt", "Transfer-Encoding: Chunked") +
    '5;name="value"\r\nGET /\r\nA \r\n0123456789\r\n000\r\nConnection: close\r\nRange: bytes=0-1\r\n\r\n',
    200,
    {},
    HELLO,
  ],
  [
    get("/hello.txt", "Transfer-Encoding: chunked") + "0\r\n\r\n",
    200,
    {},
    HELLO,
  ],
];

export const hello = (...fields: string[]) => get("/hello.txt", ...fields);

/** What is asked for when there are these fields. */
export const RANGES: readonly Case[] = [
  [
    hello("Range: bytes=0-4"),
    206,
    { "content-range": "bytes 0-4/13" },
    "hello",
  ],
  [
    hello("Range: bytes=7-"),
    206,
    { "content-range": "bytes 7-12/13" },
    "world\n",
  ],
  [
    hello("Range: bytes=-6"),
    206,
    { "content-range": "bytes 7-12/13" },
    "world\n",
  ],
  [hello("Range: bytes=-99"), 206, { "content-range": "bytes 0-12/13" }, HELLO],
  [
    hello("Range: BYTES=12-99"),
    206,
    { "content-range": "bytes 12-12/13" },
    "\n",
  ],
  [hello("Range: bytes=0-0"), 206, { "content-length": "1" }, "h"],
  [hello("Range: bytes=13-"), 416, { "content-range": "bytes */13" }],
  [hello("Range: bytes=99-100"), 416, { "content-range": "bytes */13" }],
  [hello("Range: bytes=-0"), 416, { "content-range": "bytes */13" }],
  [hello(`Range: bytes=${"9".repeat(400)}-`), 416],
  // What is no range is ignored.
  [hello("Range: bytes=5-4"), 200, { "content-range": undefined }, HELLO],
  [hello("Range: bytes=-"), 200, {}, HELLO],
  [hello("Range: bytes=a-b"), 200, {}, HELLO],
  [hello("Range: bytes=0"), 200, {}, HELLO],
  [hello("Range: lines=0-4"), 200, {}, HELLO],
  [hello("Range: bytes=0-1,4-5"), 200, {}, HELLO],
  [hello("Range: bytes=0-1", "Range: bytes=4-5"), 200, {}, HELLO],
  // Only of the version that the client has.
  [hello("Range: bytes=0-4", "If-Range: ETAG"), 206, {}, "hello"],
  [hello("Range: bytes=0-4", "If-Range: W/ETAG"), 200, {}, HELLO],
  [hello("Range: bytes=0-4", 'If-Range: "x"'), 200, {}, HELLO],
  [hello("Range: bytes=0-4", `If-Range: ${MODIFIED}`), 206, {}, "hello"],
  [
    hello("Range: bytes=0-4", "If-Range: Sun, 06 Nov 1994 08:49:38 GMT"),
    200,
    {},
    HELLO,
  ],
  [hello("Range: bytes=99-", 'If-Range: "x"'), 200, {}, HELLO],
];

export const CONDITIONS: readonly Case[] = [
  [hello("If-None-Match: ETAG"), 304, {
    "etag": "ETAG",
    "content-type": undefined,
  }],
  [hello("If-None-Match: W/ETAG"), 304, { "last-modified": MODIFIED }],
  [hello('If-None-Match: "x", W/"y,", ETAG'), 304],
  [hello('If-None-Match: "x"', "If-None-Match: ETAG"), 304],
  [hello("If-None-Match: *"), 304],
  [hello('If-None-Match: "x"'), 200, {}, HELLO],
  [hello("If-None-Match: rubbish"), 200, {}, HELLO],
  [hello(`If-Modified-Since: ${MODIFIED}`), 304],
  [hello("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"), 304],
  [hello("If-Modified-Since: Sun Nov  6 08:49:37 1994"), 304],
  [hello("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT"), 200, {}, HELLO],
  [hello("If-Modified-Since: Sun Nov  6 08:49:36 1994"), 200, {}, HELLO],
  [hello("If-Modified-Since: rubbish"), 200, {}, HELLO],
  [hello("If-Modified-Since: 5"), 200, {}, HELLO],
  // The tag counts, and the date does not.
  [
    hello('If-None-Match: "x"', `If-Modified-Since: ${MODIFIED}`),
    200,
    {},
    HELLO,
  ],
  [hello("If-Match: ETAG"), 200, {}, HELLO],
  [hello("If-Match: *"), 200, {}, HELLO],
  [hello("If-Match: W/ETAG"), 412],
  [hello('If-Match: "x"'), 412],
  [hello(`If-Unmodified-Since: ${MODIFIED}`), 200, {}, HELLO],
  [hello("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT"), 412],
  [hello("Range: bytes=0-4", "If-None-Match: ETAG"), 304],
  [hello("Range: bytes=99-", "If-None-Match: ETAG"), 304],
];
