/** Paths, queries and methods (vault section 3), against what Go's net/url makes of them. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { issuesForOnePod, requestMethod, requestPath } from '../../../src/providers/vault/request.ts'

describe('vault 3 the request path', () => {
  it.each([
    ['secret/foo', '/v1/secret/foo'],
    ['', '/v1'],
    ['v2/x', '/v1/v2/x'],
    ['v1/', '/v1'],
    ['secret//foo/', '/v1/secret/foo'],
    ['secret/a/../b', '/v1/secret/b'],
    ['secret/a b#c%2F', '/v1/secret/a%20b%23c%252F'],
    ["kv/!*'()[]", '/v1/kv/%21%2A%27%28%29%5B%5D'],
    ['kv/$&+,:;=@', '/v1/kv/$&+,:;=@'],
    ['kv/ü', '/v1/kv/%C3%BC'],
    ['x?b=2&a=1&b=1', '/v1/x?a=1&b=2&b=1'],
    ['x?a', '/v1/x?a='],
    ['x?a=b c&d=e+f', '/v1/x?a=b+c&d=e+f'],
    ['x?a=%2F%ff', '/v1/x?a=%2F%FF'],
    ['x?list=true?y', '/v1/x?list=true%3Fy'],
    ['x?&&', '/v1/x'],
  ])('%j becomes %s', (given, expected) => {
    expect(requestPath(given)).toBe(expected)
  })

  it.each(['x?a=1;b=2', 'x?a=%', 'x?a=%zz', 'x?%'])('%j has a query that cannot be parsed', (given) => {
    expect(() => requestPath(given)).toThrow('failed to parse query parameters from secretPath')
  })

  it.each(['../sys/health', 'secret/../../sys', 'v1/..'])('T11 %j does not climb out of the API', (given) => {
    expect(() => requestPath(given)).toThrow('leads out of /v1')
  })

  it('property: any text gives a path below /v1 that a URL keeps as it is, or one error', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        let path: string
        try {
          path = requestPath(text)
        } catch (error) {
          expect((error as Error).name).toBe('RequestError')
          return
        }
        const url = new URL(`https://vault:8200${path}`)
        expect(url.pathname + url.search).toBe(path)
        expect(url.pathname === '/v1' || url.pathname.startsWith('/v1/')).toBe(true)
      }),
    )
  })
})

describe('vault 2.3 the method', () => {
  it('is upper-cased and GET when empty', () => {
    expect([requestMethod(''), requestMethod('put'), requestMethod('Post')]).toEqual(['GET', 'PUT', 'POST'])
    expect(() => requestMethod('GET\r\nX: y')).toThrow('is none of')
  })
})

describe('T7 requests that issue something', () => {
  it.each([
    ['GET', '/v1/database/creds/app', true],
    ['GET', '/v1/team/db/creds/app', true],
    ['PUT', '/v1/anything', true],
    ['GET', '/v1/secret/data/creds/app', false],
    ['GET', '/v1/kv/app', false],
    ['LIST', '/v1/kv/app', false],
  ] as const)('%s %s: for one pod only: %s', (method, path, expected) => {
    expect(issuesForOnePod({ method, path })).toBe(expected)
  })
})
