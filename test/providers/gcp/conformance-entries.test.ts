/** gcp.md, cases G01 to G19 and G29: entries, files, modes, names; over the whole provider process. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startHarness, LATEST, SECRET, WEB } from './harness.ts'
import type { Harness, Mounted } from './harness.ts'

let node: Harness
beforeAll(async () => {
  node = await startHarness()
  const { stores } = node.google
  stores.addSecret(SECRET, 'old', WEB)
  stores.addSecret(SECRET, 'correct-horse')
  stores.addSecret('projects/acme-prod/locations/europe-west3/secrets/eu', 'in Europe', WEB)
})
afterAll(() => node.stop())
beforeEach(() => {
  node.google.calls.length = 0
  node.logs.length = 0
})

const brief = ({ files }: Mounted) => files.map(({ path, mode, text }) => [path, mode, text])
const entry = (more: object = {}) => ({ resourceName: LATEST, fileName: 'a.txt', ...more })

/** A failure that must come before any network use. */
async function refused(...args: Parameters<Harness['mount']>): Promise<string> {
  const { grpcCode, message } = await node.failure(...args)
  expect(grpcCode).toBe(3)
  expect(node.google.calls).toEqual([])
  return message
}

describe('entries', () => {
  it('gcp-01 latest of a global secret is written as it is, under the version that Google names', async () => {
    const mounted = await node.mount([entry()])
    expect(brief(mounted)).toEqual([['a.txt', 420, 'correct-horse']])
    expect(mounted.versions).toEqual([{ id: LATEST, version: 'projects/8142/secrets/db/versions/2' }])
  })

  it('gcp-02 one resource makes two files with modes of their own; the ids are one, as the driver keeps them', async () => {
    const mounted = await node.mount(
      `- {resourceName: "${LATEST}", fileName: a}\n- {resourceName: "${LATEST}", fileName: b, mode: 0600}`,
    )
    expect(brief(mounted)).toEqual([
      ['a', 420, 'correct-horse'],
      ['b', 384, 'correct-horse'],
    ])
    expect(mounted.versions).toEqual([{ id: LATEST, version: 'projects/8142/secrets/db/versions/2' }])
  })

  it('gcp-03 a resource of two files is accessed once', async () => {
    await node.mount([entry(), entry({ fileName: 'b', extractJSONKey: '' })])
    expect(node.google.callsOf('access')).toHaveLength(1)
  })

  it('gcp-04 path wins over fileName', async () => {
    expect(brief(await node.mount([entry({ path: 'wins' })]))).toEqual([['wins', 420, 'correct-horse']])
  })

  it('gcp-05 a nested path is kept as it is', async () => {
    expect(brief(await node.mount([entry({ path: 'a/b/c' })]))).toEqual([['a/b/c', 420, 'correct-horse']])
  })

  it.each([['a/../b'], ['/abs'], [''], ['./a'], ['x'.repeat(256)], ['..x'], ['a//b'], ['a/'], ['a\u0000']])(
    'gcp-06 the path %j is refused before any network use',
    async (path) => {
      expect(await refused([{ resourceName: LATEST, path }])).toContain('invalid path')
    },
  )

  it('gcp-06 a file that another file needs as its directory is refused before any network use', async () => {
    expect(await refused([entry({ path: 'a' }), entry({ path: 'a/b' })])).toContain('invalid path')
  })

  it.each([
    ['0600', 384],
    ['0o600', 384],
    ['0_600', 384],
    ['384', 384],
    ['0x1FF', 511],
    ['0b111', 7],
    ['4_20', 420],
    ['384.0', 384],
    ['420.7', 420],
    ['1e2', 100],
    ['!!int "0400"', 256],
    ['null', 420],
    ['~', 420],
    ['', 420],
    // Above 0777 the driver's file has the low nine bits only; that is what we say.
    ['600', 600 & 0o777],
    ['0800', 800 & 0o777],
    ['1023', 0o777],
  ])('gcp-07 mode: %s is %i', async (text, mode) => {
    const { files } = await node.mount(`- resourceName: ${LATEST}\n  path: a\n  mode: ${text}\n`)
    expect(files.map((file) => file.mode)).toEqual([mode])
  })

  it.each(['"0600"', "'0400'", '!!str 0400', 'yes', 'true', '[1]', '99999999999'])(
    'gcp-07 mode: %s is refused',
    async (text) => {
      expect(await refused(`- resourceName: ${LATEST}\n  path: a\n  mode: ${text}\n`)).toContain(
        'failed to unmarshal secrets attribute',
      )
    },
  )

  it('gcp-07 a decimal mode that looks like an octal one is warned of', async () => {
    await node.mount([entry({ mode: 440 }), entry({ fileName: 'b', mode: 420 })])
    const warnings = node.logs.filter((line) => line.startsWith('warn SecretProviderClass'))
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toContain('secrets[0] mode 440 is decimal and means 0670')
  })

  it.each([-1, 8_389_028, 2 ** 20])('gcp-08 mode %i would set special bits and is refused', async (mode) => {
    expect(await refused([entry({ mode })])).toContain(`mode ${mode} is no file mode`)
  })

  it('gcp-09 permission 420 is the mode of files without one, and any other text is refused', async () => {
    expect(brief(await node.mount([entry()], { permission: '420' }))[0]).toEqual([
      'a.txt',
      420,
      'correct-horse',
    ])
    node.google.calls.length = 0
    expect(await refused([entry()], { permission: 'abc' })).toContain('permission')
  })

  it.each(['', '{}', '{"secrets":1}'])('gcp-10 the attributes %j are refused', async (attributes) => {
    await refused(undefined, { attributes })
  })

  it('gcp-10 an SPC without secrets is told so', async () => {
    expect(await refused(undefined)).toContain("missing required 'secrets' attribute")
  })

  it.each(['', '[]', 'null', '# nothing'])('gcp-11 secrets: %j is empty', async (secrets) => {
    expect(await refused(secrets)).toContain('secrets list is empty')
  })

  it('gcp-12 a null entry is refused, and the next mount works', async () => {
    expect(await refused('- ')).toContain('secrets[0] is empty')
    expect(await refused(`- resourceName: ${LATEST}\n  path: a\n-\n`)).toContain('secrets[1] is empty')
    expect(brief(await node.mount([entry()]))).toHaveLength(1)
  })

  it.each([
    `array:\n  - |\n    resourceName: ${LATEST}\n    fileName: a\n`,
    `- |\n  resourceName: ${LATEST}\n  fileName: a\n`,
  ])('gcp-13 the form of another vendor is refused: %j', async (secrets) => {
    expect(await refused(secrets)).toContain('failed to unmarshal secrets attribute')
  })

  it('gcp-14 of two YAML documents only the first counts', async () => {
    const secrets = `- {resourceName: "${LATEST}", path: first}\n---\n- {resourceName: "${LATEST}", path: second}\n`
    expect(brief(await node.mount(secrets))).toEqual([['first', 420, 'correct-horse']])
  })

  it('gcp-15 a duplicate field is refused', async () => {
    const secrets = `- resourceName: ${LATEST}\n  path: a\n  path: b\n`
    expect(await refused(secrets)).toContain('already defined')
  })

  it('gcp-16 unknown fields and fields in another case are ignored', async () => {
    const secrets = [entry({ filename: 'x', Path: 'y', PATH: 'z', whatever: { deep: [1] } })]
    expect(brief(await node.mount(secrets))).toEqual([['a.txt', 420, 'correct-horse']])
  })

  it.each([
    'projects/p/secrets/s',
    'projects/p/locations/a/b/secrets/s/versions/1',
    `projects/p/locations/${'l'.repeat(31)}/secrets/s/versions/1`,
    'x/projects/p/secrets/s/versions/1',
    '//secretmanager.googleapis.com/projects/p/secrets/s/versions/1',
    'projects/p/locations/evil.example#/secrets/s/versions/1',
    'projects/p/locations/x@evil.example/secrets/s/versions/1',
    'projects/p/locations/a?b/secrets/s/versions/1',
    'projects/p/locations/a\\b/secrets/s/versions/1',
    'projects/p/secrets/%2e%2e/versions/1',
    'projects/p/secrets/../versions/1',
    'projects/p/secrets/s/versions/1:destroy',
    'projects/p/parameters/q/versions/1',
    '',
  ])('gcp-17 T11 the name %j is refused before any network use', async (resourceName) => {
    const message = await refused([entry({ resourceName })])
    expect(message).toContain('secrets[0]')
    expect(node.google.listeners.tunnels.join()).not.toContain('evil')
  })

  it('gcp-17 every wrong entry is named', async () => {
    const message = await refused([
      entry({ resourceName: 'projects/p/secrets/s' }),
      entry({ path: 'b' }),
      entry({ resourceName: 'nonsense', path: 'c' }),
    ])
    expect(message).toContain('secrets[0]')
    expect(message).not.toContain('secrets[1]')
    expect(message).toContain('secrets[2]')
  })

  it('gcp-18 a secret in locations/global is refused at once, with the hint', async () => {
    const began = performance.now()
    const message = await refused([
      entry({ resourceName: 'projects/p/locations/global/secrets/s/versions/1' }),
    ])
    expect(performance.now() - began).toBeLessThan(100)
    expect(message).toContain('Leave locations/global out')
  })

  it('gcp-19 a regional secret is asked for at its regional host only', async () => {
    const resourceName = 'projects/acme-prod/locations/europe-west3/secrets/eu/versions/latest'
    expect(brief(await node.mount([entry({ resourceName })]))).toEqual([['a.txt', 420, 'in Europe']])
    expect(node.google.callsOf('access').map(({ host }) => host)).toEqual([
      'secretmanager.europe-west3.rep.googleapis.com',
    ])
  })

  it('gcp-29 two extract keys in one entry are refused with zero calls', async () => {
    expect(await refused([entry({ extractJSONKey: 'a', extractYAMLKey: 'b' })])).toContain(
      'both extractJSONKey and extractYAMLKey',
    )
  })

  it('gcp section 3 a path that is repeated keeps the last entry, with a warning', async () => {
    const secrets = [entry(), { resourceName: `${SECRET}/versions/1`, fileName: 'a.txt' }]
    expect(brief(await node.mount(secrets))).toEqual([['a.txt', 420, 'old']])
    expect(node.logs.some((line) => line.includes('one file name'))).toBe(true)
  })

  it('gcp section 1 gke is another name of the dialect', async () => {
    expect(brief(await node.mount([entry()], { provider: 'gke' }))).toEqual([['a.txt', 420, 'correct-horse']])
  })
})
