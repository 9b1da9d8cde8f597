import { createServer } from 'node:http'
import type { IncomingMessage, RequestListener, Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { createServer as createTcpServer, connect } from 'node:net'
import type { AddressInfo, Server as TcpServer, Socket } from 'node:net'
import { mkdtempSync, rmSync } from 'node:fs'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { createHttpClient } from '../../src/net/client.ts'
import { HttpError } from '../../src/net/http.ts'
import type { Destination, HttpRequest } from '../../src/net/http.ts'
import type { Resolve } from '../../src/net/lookup.ts'
import { createAuthority } from './certificates.ts'

const authority = createAuthority()
const TOKEN = 'canary-token-3f9a'
const operator: Destination = { origin: 'operator' }
const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

function client(resolve?: Resolve) {
  const http = createHttpClient({ rules: { refused: ['10.96.0.1'] }, ...(resolve && { resolve }) })
  closers.push(() => http.close())
  return http
}

function listen(server: Server | TcpServer, host = '127.0.0.1'): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket))
  closers.push(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return new Promise((resolve) =>
    server.listen(0, host, () => resolve((server.address() as AddressInfo).port)),
  )
}

/** A recording server; replies with `listener`. */
async function fake(listener: RequestListener) {
  const requests: IncomingMessage[] = []
  let connections = 0
  const server = createServer((request, response) => {
    requests.push(request)
    listener(request, response)
  })
  server.on('connection', () => connections++)
  const port = await listen(server)
  return { url: `http://127.0.0.1:${port}`, port, requests, connections: () => connections }
}

async function fakeTls(names: readonly string[], host = '127.0.0.1', extra: object = {}) {
  const requests: IncomingMessage[] = []
  const server = createTlsServer({ ...authority.issue(names), ...extra }, (request, response) => {
    requests.push(request)
    response.end('secure')
  })
  return { port: await listen(server, host), requests }
}

function get(url: string, options: Partial<HttpRequest> = {}): HttpRequest {
  return { method: 'GET', url, to: operator, signal: new AbortController().signal, ...options }
}

async function failure(call: Promise<unknown>): Promise<HttpError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof HttpError)) throw new Error('expected an HttpError', { cause: error })
  return error
}

describe('a call', () => {
  it('sends method, headers and body, and returns status, headers and body', async () => {
    const server = await fake((request, response) => {
      response.setHeader('X-Many', ['a', 'b'])
      response.statusCode = 418
      request.pipe(response)
    })
    const reply = await client().send(
      get(`${server.url}/a/b%20c?d=e`, { method: 'PUT', body: 'grüße', headers: { 'x-one': '1' } }),
    )
    expect(reply.status).toBe(418)
    expect(reply.headers['x-many']).toBe('a, b')
    expect(reply.body.toString()).toBe('grüße')
    expect(Object.getPrototypeOf(reply.headers)).toBeNull()
    expect(server.requests[0]?.method).toBe('PUT')
    expect(server.requests[0]?.url).toBe('/a/b%20c?d=e')
    expect(server.requests[0]?.headers['x-one']).toBe('1')
    expect(server.requests[0]?.headers['content-length']).toBe('7')
  })

  it('sends a body with GET, as Vault wants it', async () => {
    const server = await fake((request, response) => request.pipe(response))
    const reply = await client().send(get(server.url, { body: Buffer.from('{"a":1}') }))
    expect(reply.body.toString()).toBe('{"a":1}')
  })

  it('reuses connections of equal destinations and not of different ones', async () => {
    const server = await fake((_, response) => response.end('x'))
    const http = client()
    for (let i = 0; i < 5; i++) await http.send(get(server.url))
    expect(server.connections()).toBe(1)
    await http.send(get(server.url, { to: { origin: 'operator', tls: { serverName: 'other' } } }))
    expect(server.connections()).toBe(2)
  })

  it('never follows a redirect', async () => {
    const server = await fake((_, response) => response.writeHead(302, { location: '/elsewhere' }).end())
    const reply = await client().send(get(server.url, { headers: { authorization: TOKEN } }))
    expect(reply.status).toBe(302)
    expect(server.requests).toHaveLength(1)
  })

  it('ignores proxy variables of the environment', async () => {
    const server = await fake((_, response) => response.end('direct'))
    process.env['http_proxy'] = process.env['HTTP_PROXY'] = 'http://127.0.0.1:1'
    try {
      expect((await client().send(get(server.url))).body.toString()).toBe('direct')
    } finally {
      delete process.env['http_proxy']
      delete process.env['HTTP_PROXY']
    }
  })

  it('speaks to a unix socket that the operator named', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'keyferry-net-'))
    closers.push(() => rmSync(directory, { recursive: true, force: true }))
    const socketPath = join(directory, 's')
    const server = createServer((_, response) => response.end('local'))
    await new Promise<void>((resolve) => server.listen(socketPath, resolve))
    closers.push(() => server.close())
    const reply = await client().send(get('http://vault/v1', { to: { origin: 'operator', socketPath } }))
    expect(reply.body.toString()).toBe('local')
  })

  it('is repeated once when an idle connection turns out to be closed', async () => {
    let sockets = 0
    const server = createTcpServer((socket) => {
      const first = ++sockets === 1
      let calls = 0
      socket.on('data', () => {
        // The first connection dies under its second call.
        if (first && ++calls === 2) socket.resetAndDestroy()
        else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
      })
      socket.on('error', () => {})
    })
    const url = `http://127.0.0.1:${await listen(server)}`
    const http = client()
    await http.send(get(url))
    expect((await http.send(get(url))).status).toBe(200)
    expect(sockets).toBe(2)
  })
})

describe('deadlines', () => {
  it('end a call whose server never answers', async () => {
    const server = await fake(() => {})
    const error = await failure(client().send(get(server.url, { timeoutMs: 50 })))
    expect(error.failure).toBe('timeout')
    expect(error.host).toBe(`127.0.0.1:${server.port}`)
  })

  it('end a call whose body drips for ever', async () => {
    const server = await fake((_, response) => {
      const drip = setInterval(() => response.write('.'), 5)
      response.on('close', () => clearInterval(drip))
    })
    expect((await failure(client().send(get(server.url, { timeoutMs: 60 })))).failure).toBe('timeout')
  })

  it('give up at once when the signal fires, before and during the call', async () => {
    const server = await fake(() => {})
    const controller = new AbortController()
    const call = failure(client().send(get(server.url, { signal: controller.signal })))
    setTimeout(() => controller.abort(), 20)
    expect((await call).failure).toBe('aborted')
    expect((await failure(client().send(get(server.url, { signal: AbortSignal.abort() })))).failure).toBe(
      'aborted',
    )
    expect(server.requests).toHaveLength(1)
  })

  it('leave no listener on the signal', async () => {
    const server = await fake((_, response) => response.end('x'))
    const controller = new AbortController()
    let listening = 0
    const add = controller.signal.addEventListener.bind(controller.signal)
    const remove = controller.signal.removeEventListener.bind(controller.signal)
    Object.assign(controller.signal, {
      addEventListener: (...args: Parameters<typeof add>) => (listening++, add(...args)),
      removeEventListener: (...args: Parameters<typeof remove>) => (listening--, remove(...args)),
    })
    await client().send(get(server.url, { signal: controller.signal }))
    expect(listening).toBe(0)
  })
})

describe('T18 calls to one host', () => {
  const asks = async (http: ReturnType<typeof client>, url: string, turn: string, signal?: AbortSignal) =>
    http.send({ ...get(url, { to: operator, ...(signal && { signal }) }), turn })

  it('of a namespace whose calls hang leave room, and the waiting ones take turns', async () => {
    const held: (() => void)[] = []
    const server = await fake((request, response) => {
      if (request.url === '/slow') held.push(() => response.end())
      else response.end('quick')
    })
    const http = client()
    const storm = Array.from({ length: 200 }, () => asks(http, `${server.url}/slow`, 'noisy'))
    while (held.length < 48) await new Promise((resolve) => setTimeout(resolve, 5))
    for (let index = 0; index < 20; index += 1)
      expect((await asks(http, `${server.url}/quick`, 'quiet')).body.toString()).toBe('quick')
    expect(held).toHaveLength(48)
    const answering = setInterval(() => {
      for (const answer of held.splice(0)) answer()
    }, 5)
    await Promise.all(storm).finally(() => clearInterval(answering))
  })

  it('are given up at once, also while they wait for a place', async () => {
    const server = await fake(() => {})
    const http = client()
    const mount = new AbortController()
    const all = Array.from({ length: 100 }, () => failure(asks(http, server.url, 'noisy', mount.signal)))
    while (server.requests.length < 48) await new Promise((resolve) => setTimeout(resolve, 5))
    mount.abort()
    expect(new Set((await Promise.all(all)).map((error) => error.failure))).toEqual(new Set(['aborted']))
    expect(server.requests).toHaveLength(48)
  })
})

describe('T14 replies', () => {
  it('are refused over the cap, with and without a length, and the connection is dropped', async () => {
    const server = await fake((request, response) => {
      if (request.url === '/length') response.setHeader('content-length', 2000)
      response.write(Buffer.alloc(1500))
      response.end(Buffer.alloc(500))
    })
    for (const path of ['/length', '/chunked']) {
      expect((await failure(client().send(get(server.url + path, { maxBytes: 1999 })))).failure).toBe(
        'too-large',
      )
      expect((await client().send(get(server.url + path, { maxBytes: 2000 }))).body).toHaveLength(2000)
    }
  })

  it.each([
    ['gzip', gzipSync],
    ['deflate', deflateSync],
    ['br', brotliCompressSync],
  ] as const)('of %s are unpacked, and a bomb ends at the cap', async (encoding, compress) => {
    const bomb = compress(Buffer.alloc(64 * 1024 * 1024))
    const server = await fake((request, response) => {
      response.setHeader('content-encoding', encoding)
      response.end(request.url === '/bomb' ? bomb : compress('hello'))
    })
    expect((await client().send(get(server.url))).body.toString()).toBe('hello')
    const before = process.memoryUsage().rss
    expect((await failure(client().send(get(`${server.url}/bomb`, { maxBytes: 1024 * 1024 })))).failure).toBe(
      'too-large',
    )
    expect(process.memoryUsage().rss - before).toBeLessThan(48 * 1024 * 1024)
  })

  it.each([
    [
      'an unknown encoding',
      'HTTP/1.1 200 OK\r\ncontent-encoding: lzma\r\ncontent-length: 1\r\n\r\nx',
      'malformed',
    ],
    [
      'two encodings',
      'HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: 1\r\n\r\nx',
      'malformed',
    ],
    [
      'broken gzip',
      'HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd',
      'malformed',
    ],
    ['something that is not HTTP', 'SSH-2.0-OpenSSH_9\r\n', 'malformed'],
    ['headers without end', `HTTP/1.1 200 OK\r\n${'x-a: b\r\n'.repeat(20_000)}`, 'malformed'],
    ['fewer bytes than announced', 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc', 'malformed'],
    ['nothing', '', 'unreachable'],
  ])('with %s are one clear error', async (_, bytes, expected) => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.end(bytes))
    })
    const port = await listen(server)
    const error = await failure(
      client().send(get(`http://127.0.0.1:${port}/?q=${TOKEN}`, { headers: { authorization: TOKEN } })),
    )
    expect(error.failure).toBe(expected)
    expect(error.message).not.toContain(TOKEN)
    expect(error.message).not.toContain('SSH')
  })

  it('to HEAD and without content are empty although an encoding is named', async () => {
    const server = await fake((_, response) => response.writeHead(204, { 'content-encoding': 'gzip' }).end())
    expect((await client().send(get(server.url))).body).toHaveLength(0)
  })
})

describe('what cannot be sent', () => {
  it.each([
    ['ftp://example.com/', 'refused-address'],
    ['file:///etc/passwd', 'refused-address'],
    ['not a url', 'refused-address'],
    ['http://user:s3same@127.0.0.1/', 'refused-address'],
  ])('%s is refused', async (url, expected) => {
    const error = await failure(client().send(get(url)))
    expect(error.failure).toBe(expected)
    expect(error.message).not.toContain('s3same')
  })

  it('a header with a line break is refused without quoting it', async () => {
    const server = await fake((_, response) => response.end())
    const error = await failure(
      client().send(get(server.url, { headers: { authorization: `${TOKEN}\r\nx: y` } })),
    )
    expect(error.failure).toBe('malformed')
    expect(error.message).not.toContain(TOKEN)
    expect(server.requests).toHaveLength(0)
  })

  it('a closed port is unreachable', async () => {
    expect((await failure(client().send(get('http://127.0.0.1:1')))).failure).toBe('unreachable')
  })
})

describe('TLS', () => {
  const to = (tls: Destination['tls']): Destination => ({ origin: 'operator', ...(tls && { tls }) })

  it('T13 trusts the given authority only, and checks the name', async () => {
    const { port, requests } = await fakeTls(['127.0.0.1', 'vault.test'])
    const url = `https://127.0.0.1:${port}/`
    expect((await client().send(get(url, { to: to({ ca: [authority.ca] }) }))).body.toString()).toBe('secure')
    expect((await failure(client().send(get(url)))).failure).toBe('tls')
    expect((await failure(client().send(get(url, { to: to({ ca: [createAuthority().ca] }) })))).failure).toBe(
      'tls',
    )
    const named = to({ ca: [authority.ca], serverName: 'vault.test' })
    expect((await client().send(get(url, { to: named }))).status).toBe(200)
    const wrong = to({ ca: [authority.ca], serverName: 'other.test' })
    expect((await failure(client().send(get(url, { to: wrong })))).failure).toBe('tls')
    const address = to({ ca: [authority.ca], serverName: '127.0.0.2' })
    expect((await failure(client().send(get(url, { to: address })))).failure).toBe('tls')
    expect(requests).toHaveLength(2)
  })

  it('T13 skips verification only when told so', async () => {
    const { port } = await fakeTls(['elsewhere.test'])
    const reply = await client().send(
      get(`https://127.0.0.1:${port}/`, { to: to({ insecureSkipVerify: true }) }),
    )
    expect(reply.status).toBe(200)
  })

  it('T13 refuses TLS below 1.2', async () => {
    const { port } = await fakeTls(['127.0.0.1'], '127.0.0.1', {
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    })
    const call = client().send(get(`https://127.0.0.1:${port}/`, { to: to({ ca: [authority.ca] }) }))
    expect((await failure(call)).failure).toBe('tls')
  })

  it('presents a client certificate', async () => {
    const { port } = await fakeTls(['127.0.0.1'], '127.0.0.1', {
      requestCert: true,
      rejectUnauthorized: true,
      ca: authority.ca,
    })
    const url = `https://127.0.0.1:${port}/`
    const mine = authority.issue(['client.test'])
    expect((await client().send(get(url, { to: to({ ca: [authority.ca], ...mine }) }))).status).toBe(200)
    expect(['tls', 'unreachable', 'malformed']).toContain(
      (await failure(client().send(get(url, { to: to({ ca: [authority.ca] }) })))).failure,
    )
  })
})

describe('a proxy from the configuration', () => {
  /** A CONNECT proxy that sends every tunnel to `port` on loopback. */
  async function proxy(port: number, answer = 'HTTP/1.1 200 OK\r\n\r\n') {
    const seen: string[] = []
    const server = createTcpServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', (head) => {
        seen.push(head.toString())
        socket.write(answer)
        if (!answer.includes(' 200 ')) return
        const upstream = connect(port, '127.0.0.1')
        upstream.on('error', () => socket.destroy())
        socket.on('close', () => upstream.destroy())
        socket.pipe(upstream).pipe(socket)
      })
    })
    return { url: `http://us%65r:pw@127.0.0.1:${await listen(server)}`, seen }
  }

  it('gets a CONNECT with its own credentials and nothing of the call', async () => {
    const { port } = await fakeTls(['vault.test'])
    const { url, seen } = await proxy(port)
    const to: Destination = { origin: 'operator', proxy: url, tls: { ca: [authority.ca] } }
    const reply = await client().send(
      get('https://vault.test:8200/', { to, headers: { authorization: TOKEN } }),
    )
    expect(reply.body.toString()).toBe('secure')
    expect(seen[0]).toContain('CONNECT vault.test:8200 HTTP/1.1')
    expect(seen[0]).toContain(`Basic ${Buffer.from('user:pw').toString('base64')}`)
    expect(seen[0]).not.toContain(TOKEN)
  })

  it('that refuses makes the call unreachable', async () => {
    const { url } = await proxy(1, 'HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n')
    const error = await failure(
      client().send(get('https://vault.test/', { to: { origin: 'operator', proxy: url } })),
    )
    expect(error.failure).toBe('unreachable')
    expect(error.message).not.toContain('pw')
  })

  it('T11 is given the checked address for a parameter, and none that is refused', async () => {
    const { url, seen } = await proxy(1, 'HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n')
    const to: Destination = { origin: 'parameter', proxy: url }
    const answers =
      (address: string): Resolve =>
      (_, __, callback) =>
        callback(null, [{ address, family: 4 }])
    expect(
      (await failure(client(answers('169.254.169.254')).send(get('https://a.test/', { to })))).failure,
    ).toBe('refused-address')
    expect(seen).toEqual([])
    await failure(client(answers('203.0.113.9')).send(get('https://a.test/', { to })))
    expect(seen[0]).toContain('CONNECT 203.0.113.9:443')
  })
})

describe('T11 an address named by a parameter', () => {
  const to: Destination = { origin: 'parameter', tls: { ca: [authority.ca] } }
  const call = (url: string) =>
    get(url, { to, headers: { authorization: TOKEN }, method: 'POST', body: TOKEN })

  it('must be https', async () => {
    const server = await fake((_, response) => response.end())
    expect((await failure(client().send(call(server.url)))).failure).toBe('refused-address')
    expect(server.connections()).toBe(0)
  })

  it.each([
    '127.0.0.1',
    '2130706433',
    '0x7f.1',
    '017700000001',
    '[::ffff:127.0.0.1]',
    'localhost',
    'LOCALHOST.',
  ])('must not be loopback spelled %s: no connection, no token', async (host) => {
    const connections: Socket[] = []
    const server = createTcpServer((socket) => connections.push(socket))
    const port = await listen(server)
    const error = await failure(client().send(call(`https://${host}:${port}/`)))
    expect(error.failure).toBe('refused-address')
    expect(connections).toEqual([])
  })

  it.each([
    ['169.254.169.254'],
    ['fd00:ec2::254'],
    ['::ffff:169.254.169.254'],
    ['10.96.0.1'],
    ['127.0.0.1'],
    ['203.0.113.1', '127.0.0.1'],
  ])('must not resolve to %s %s', async (...addresses) => {
    const connections: Socket[] = []
    const server = createTcpServer((socket) => connections.push(socket))
    const port = await listen(server)
    const resolve: Resolve = (_, __, callback) =>
      callback(
        null,
        addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
      )
    const error = await failure(client(resolve).send(call(`https://innocent.test:${port}/`)))
    expect(error.failure).toBe('refused-address')
    expect(error.message).toContain('innocent.test')
    expect(connections).toEqual([])
  })

  it('is connected to at the very address that was checked, however the name changes its mind', async () => {
    let asked = 0
    const resolve: Resolve = (_, __, callback) => {
      asked += 1
      callback(null, [{ address: asked === 1 ? '203.0.113.77' : '127.0.0.1', family: 4 }])
    }
    const connections: Socket[] = []
    const port = await listen(createTcpServer((socket) => connections.push(socket)))
    const http = client(resolve)
    const first = await failure(http.send(get(`https://rebind.test:${port}/`, { to, timeoutMs: 300 })))
    expect(['timeout', 'unreachable']).toContain(first.failure)
    expect(asked).toBe(1)
    expect((await failure(http.send(call(`https://rebind.test:${port}/`)))).failure).toBe('refused-address')
    expect(connections).toEqual([])
  })

  it('must not be a unix socket', async () => {
    const over = get('https://vault.test/', { to: { origin: 'parameter', socketPath: '/run/x.sock' } })
    expect((await failure(client().send(over))).failure).toBe('refused-address')
  })

  it('is refused for vendor SDKs too, which bring their own client', async () => {
    const server = await fake((_, response) => response.end())
    const { http, https } = client().agents(to)
    const { request } = await import('node:http')
    const tls = await import('node:https')
    const ask = (run: (done: (error: Error) => void) => void) => new Promise<Error>((resolve) => run(resolve))
    const plain = await ask((done) =>
      request({ host: '203.0.113.1', port: server.port, agent: http }).on('error', done).end(),
    )
    const secure = await ask((done) =>
      tls.request({ host: '127.0.0.1', port: server.port, agent: https }).on('error', done).end(),
    )
    expect(plain.message).toContain('https')
    expect(secure.message).toContain('loopback')
    expect(server.connections()).toBe(0)
  })

  const outward = Object.values(networkInterfaces())
    .flat()
    .find((entry) => entry !== undefined && entry.family === 'IPv4' && !entry.internal)?.address

  it.skipIf(outward === undefined)(
    'works for a private address (skipped on a machine without one)',
    async () => {
      const { port, requests } = await fakeTls(['vault.test'], outward)
      const resolve: Resolve = (_, __, callback) => callback(null, [{ address: outward ?? '', family: 4 }])
      const reply = await client(resolve).send(call(`https://vault.test:${port}/`))
      expect(reply.body.toString()).toBe('secure')
      expect(requests[0]?.headers.authorization).toBe(TOKEN)
      expect(requests[0]?.headers.host).toBe(`vault.test:${port}`)
    },
  )
})
