/** `keyferry lint` as a user runs it: what it finds, where, how it says so, and its exit codes. */
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import * as v from 'valibot'
import { afterAll, describe, expect, it } from 'vitest'
import { checkSpc, type CheckOptions } from '../../src/commands/lint/check.ts'
import type { Finding, LintResult } from '../../src/commands/lint/findings.ts'
import { sarifLog } from '../../src/commands/lint/sarif.ts'
import { textReport } from '../../src/commands/lint/text.ts'
import { inspectSpcs } from '../../src/commands/spc-files.ts'
import { BUILT_IN } from '../../src/providers/registry.ts'
import { ROOT, keyferry } from '../support/cli.ts'

const scratch = mkdtempSync(join(tmpdir(), 'keyferry-lint-'))
afterAll(() => rmSync(scratch, { recursive: true }))

const OPTIONS: CheckOptions = {
  providers: BUILT_IN.flatMap(({ dialects }) => dialects).sort(),
  limits: { maxOutputs: 5 },
  async dialect(name) {
    const entry = BUILT_IN.find(({ dialects }) => dialects.includes(name))
    const found = (await entry?.load())?.adapter.dialects?.find(
      (one) => one.name === name || one.aliases?.includes(name),
    )
    if (!found) throw new Error(`no dialect ${name}`)
    return found
  },
}

/** All that is found in one text. */
async function findings(text: string): Promise<Finding[]> {
  const { classes, faults } = inspectSpcs('spc.yaml', text)
  const checked = await Promise.all(classes.map((spc) => checkSpc(spc, OPTIONS)))
  return [...faults.map((fault) => ({ file: 'spc.yaml', ...fault })), ...checked.flat()]
}

const brief = (all: readonly Finding[]): string[] =>
  all.map(({ line, column, code }) => `${line}:${column} ${code}`)

/** A class of `provider` from its sixth line on. */
const spc = (provider: string, spec: string): string => `apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: { name: web, namespace: shop }
spec:
  provider: ${provider}
${spec}`

describe('examples', () => {
  const good = globSync('examples/**/*.yaml', {
    cwd: ROOT,
    exclude: ['examples/bad/**', 'examples/keyferry/**'],
  }).sort()
  const bad = globSync('examples/bad/*.yaml', { cwd: ROOT }).sort()

  it('are clean, all of them; the one that needs a Secret of its volume says so', () => {
    const { status, stdout, stderr } = keyferry(['lint', '--json', ...good])
    expect(stderr).toBe('')
    const { counts, findings } = JSON.parse(stdout) as {
      counts: Record<string, number>
      findings: Finding[]
    }
    expect(findings.map(({ file, code }) => `${file} ${code}`)).toEqual([
      'examples/azure/service-principal.yaml AZURE_IDENTITY',
    ])
    expect(counts).toMatchObject({ faults: 0, warnings: 1 })
    expect(counts['classes']).toBeGreaterThanOrEqual(13)
    expect(status).toBe(0)
  })

  it('of stores by name are clean with the configuration that has the stores, and not without it', () => {
    const file = 'examples/keyferry/secretproviderclass.yaml'
    const { status, stdout } = keyferry(['lint', '--config', 'examples/keyferry/node.yaml', '--json', file])
    expect(JSON.parse(stdout)).toMatchObject({ counts: { classes: 1, faults: 0, warnings: 0 } })
    expect(status).toBe(0)
    expect(keyferry(['lint', file]).stdout).toContain('KEYFERRY_UNKNOWN_STORE')
  })

  it('T1 of stores by name are checked as the service account that mounts them, and a missing rule is told', () => {
    const config = join(scratch, 'node.yaml')
    const rule = '{ namespaces: [shop], serviceAccounts: [web], keys: ["**"] }'
    writeFileSync(
      config,
      `stores:\n  documents: { backend: sops, allow: [${rule}] }\n  central: { backend: aws-secrets-manager, allow: [${rule}] }\n`,
    )
    const check = (...flags: string[]) =>
      keyferry(['lint', '--config', config, ...flags, 'examples/keyferry/secretproviderclass.yaml'])
    expect(check('--service-account', 'web').status).toBe(0)
    const { status, stdout } = check()
    expect(status).toBe(1)
    expect(stdout).toContain('"documents" has no allow rule for shop/default')
    expect(check('--service-account', 'web', '--namespace', 'pay').stdout).toContain(
      '"documents" has no allow rule for pay/web',
    )
    writeFileSync(config, `stores: { documents: { backend: sops, allow: [${rule}] } }\n`)
    const other = check('--service-account', 'web').stdout
    expect(other).toContain('"central" is no store for shop/web')
    expect(other).not.toContain('documents')
  })

  it('of what goes wrong are of known dialects, and every page of them has faults', () => {
    const pages = bad.map((file) => file.slice('examples/bad/'.length, -'.yaml'.length))
    expect(pages).toEqual(
      expect.arrayContaining(['aws', 'azure', 'gcp', 'keyferry', 'openbao', 'sops', 'vault']),
    )
    expect([...OPTIONS.providers, 'keyferry']).toEqual(expect.arrayContaining(pages))
    const { status, stdout } = keyferry(['lint', '--json', ...bad])
    const { findings } = JSON.parse(stdout) as { findings: Finding[] }
    const faulty = new Set(findings.filter((one) => one.severity === 'fault').map(({ file }) => file))
    expect([...faulty]).toEqual(bad)
    expect(status).toBe(1)
  })

  it('of templates that go wrong have their faults inside of the templates, with the missing name', () => {
    const file = 'examples/bad/keyferry.yaml'
    const lines = readFileSync(join(ROOT, file), 'utf8').split('\n')
    const { status, stdout } = keyferry(['lint', '--config', 'examples/keyferry/node.yaml', '--json', file])
    const { findings } = JSON.parse(stdout) as { findings: Finding[] }
    expect(
      findings.map(({ code, line, column }) => [code, lines[line - 1]?.slice(column - 1).split(' ')[0]]),
    ).toEqual([
      ['KEYFERRY_TEMPLATE_NAME', 'pasword'],
      ['KEYFERRY_TEMPLATE', 'urlencode'],
      ['KEYFERRY_TEMPLATE', '{%'],
      ['KEYFERRY_TEMPLATE', '{%'],
      ['KEYFERRY_FILES', 'format:'],
    ])
    expect(findings[0]?.message).toContain('line 1: "pasword" is not the name of a value (file "db/url")')
    expect(findings[0]?.remedy).toBe('Is "password" meant?')
    expect(status).toBe(1)
  })

  it('of what goes wrong have their faults where the files have them', async () => {
    const file = 'examples/bad/sops.yaml'
    const text = readFileSync(join(ROOT, file), 'utf8')
    const lines = text.split('\n')
    const from = ({ line, column }: Finding): string => (lines[line - 1] ?? '').slice(column - 1)
    const all = await findings(text)
    const found = (code: string, word: string) =>
      all.filter((one) => one.code === code && one.message.includes(word)).map(from)
    expect(found('INVALID_PARAMETER', 'fomat')).toEqual(['fomat: json'])
    expect(found('INVALID_PARAMETER', 'filePermission must')).toEqual(['"0999"'])
    expect(found('INVALID_PARAMETER', 'JSON Pointer')).toEqual(['db.password'])
    expect(found('SECRET_OBJECT_NO_FILE', '')).toEqual(['db-pasword'])
    expect(found('SPC_WARNING', 'objekts')).toEqual(['objekts: ignored'])
  })
})

describe('places', () => {
  const entry = '- { objectName: a, filePermission: "0999" }'
  const faulty = (parameter: string) =>
    findings(spc('sops', `  parameters:\n    sopsFile: a.yaml\n${parameter}`))

  it('follow a block scalar, however deep it is indented', async () => {
    expect(brief(await faulty(`    objects: |\n          ${entry}`))).toEqual(['9:46 INVALID_PARAMETER'])
    expect(brief(await faulty(`    objects: | # these\n\n      ${entry}`))).toEqual([
      '10:42 INVALID_PARAMETER',
    ])
    expect(brief(await faulty(`    objects: >-\n      ${entry}`))).toEqual(['9:42 INVALID_PARAMETER'])
  })

  it('follow Windows line ends', async () => {
    const text = spc('sops', `  parameters:\n    sopsFile: a.yaml\n    objects: |\n      ${entry}\n`)
    expect(brief(await findings(text.replaceAll('\n', '\r\n')))).toEqual(['9:42 INVALID_PARAMETER'])
  })

  it('follow a quoted text on one line, and name its beginning where escapes have moved it about', async () => {
    expect(brief(await faulty(`    objects: '${entry}'`))).toEqual(['8:50 INVALID_PARAMETER'])
    expect(brief(await faulty(`    objects: "\\n- { objectName: a, mode: 1 }"`))).toEqual([
      '8:14 INVALID_PARAMETER',
    ])
  })

  it('name the beginning of a folded text whose lines are not those of the file', async () => {
    expect(
      brief(await faulty(`    objects: >\n      [{ objectName: a,\n      path: /a }, { no: b }]`)),
    ).toEqual(['8:14 INVALID_PARAMETER', '8:14 INVALID_PARAMETER'])
  })

  it('are those of the file for a second document and for a list as kubectl prints it', async () => {
    const one = spc('sops', '  parameters: { sopsFile: /a }')
    expect(brief(await findings(`a: 1\n---\n${one}`))).toEqual(['8:17 INVALID_PARAMETER'])
    const items = one
      .split('\n')
      .map((line, index) => `${index === 0 ? '- ' : '  '}${line}`)
      .join('\n')
    expect(brief(await findings(`apiVersion: v1\nkind: List\nitems:\n${items}`))).toEqual([
      '9:19 INVALID_PARAMETER',
    ])
  })

  it('are those of the entry in a list of texts, as Azure writes it', async () => {
    const head = '    keyvaultName: shop\n    tenantID: t\n    clientID: c\n    objects: |\n'
    const entries = `
      array:
        - |
          objectName: a
          objectType: secret
        - |
          objectName: b
          objectType: secrets`
    expect(brief(await findings(spc('azure', `  parameters:\n${head}${entries}`)))).toEqual([
      '16:9 AZURE_OBJECT',
    ])
  })

  it('are found by the object that a message speaks of where the planner has none', async () => {
    const objects =
      '    objects: |\n      - { objectName: db-2, path: /b }\n      - { objectName: db, path: /a }\n      - { objectName: db, path: /c }'
    expect(brief(await faulty(objects))).toEqual(['11:23 DUPLICATE_PATH'])
  })
})

describe('what the API server and the driver would say', () => {
  it('is told of values that are no strings in YAML 1.1, with all of them at once', async () => {
    const found = await findings(
      spc(
        'aws',
        '  parameters:\n    usePodIdentity: yes\n    region: 1\n    pathTranslation: False\n    objects: [a]',
      ),
    )
    expect(brief(found)).toEqual(['7:21 SPC_FIELD', '8:13 SPC_FIELD', '9:22 SPC_FIELD', '10:14 SPC_FIELD'])
  })

  it('is told of a class without parameters, and of the field that was meant', async () => {
    expect(brief(await findings(spc('aws', '  parameter: { a: b }')))).toEqual([
      '6:3 SPC_UNKNOWN_FIELD',
      '4:1 SPC_NO_PARAMETERS',
    ])
    expect(brief(await findings(spc('aws', '  parameters: {}')))).toEqual(['6:3 SPC_NO_PARAMETERS'])
  })

  it('is told of a provider that nobody serves, with the closest that somebody does', async () => {
    const [found] = await findings(spc('vualt', '  parameters: { roleName: web }'))
    expect(found).toMatchObject({ line: 5, column: 13, code: 'UNKNOWN_PROVIDER', severity: 'fault' })
    expect(found?.remedy).toContain('Is "vault" meant?')
    const [strange] = await findings(spc('hashicorp', '  parameters: { roleName: web }'))
    expect(strange?.remedy).toBe(`Name one of ${OPTIONS.providers.join(', ')}`)
  })

  it('is told of Secrets made of files that the volume does not have, and of no others', async () => {
    const found = await findings(
      spc(
        'sops',
        `  secretObjects:
    - { secretName: a, data: [{ objectName: user, key: u }, { objectName: /user, key: v }] }
  parameters:
    sopsFile: a.yaml
    objects: "[{ objectName: user, path: /user }]"`,
      ),
    )
    expect(brief(found)).toEqual(['7:75 SECRET_OBJECT_NO_FILE'])
    const expanded =
      '  secretObjects: [{ data: [{ objectName: any }] }]\n  parameters: { sopsFile: a.yaml, expand: topLevel }'
    expect(await findings(spc('sops', expanded))).toEqual([])
  })

  it('is told of more objects than the configuration allows', async () => {
    const objects = Array.from({ length: 6 }, (_, n) => `{ objectName: o${n}, path: /a }`).join(', ')
    const found = await findings(
      spc('sops', `  parameters:\n    sopsFile: a.yaml\n    objects: "[${objects}]"`),
    )
    expect(found.map(({ code }) => code)).toEqual(['TOO_MANY_OBJECTS'])
  })
})

describe('hostile files', () => {
  it('of YAML nested without end are one fault', async () => {
    const found = await findings(`a: ${'['.repeat(100_000)}`)
    expect(found).toHaveLength(1)
    expect(found[0]).toMatchObject({ line: 1, code: 'SPC_YAML' })
  })

  it('with the names of what objects inherit are parameters like others', async () => {
    const found = await findings(
      spc('sops', '  parameters: { __proto__: a, constructor: b, toString: c, sopsFile: /a }'),
    )
    expect(found.map(({ code }) => code)).toEqual(['INVALID_PARAMETER'])
  })

  it('with control characters do not reach the terminal with them', async () => {
    const all = await findings(spc('sops', '  parameters: { sopsFile: a.yaml, expand: "\\e[2J\\a" }'))
    expect(all).toHaveLength(1)
    const report = textReport({ files: ['\u001B.yaml'], classes: 1, findings: all }, false)
    expect(report.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u)
  })

  it('do not hide what is wrong with the classes behind them', async () => {
    const found = await findings(`a: b: c\n---\n${spc('sops', '  parameters: { sopsFile: /a }')}`)
    expect(brief(found)).toEqual(['1:4 SPC_YAML', '8:17 INVALID_PARAMETER'])
  })
})

/** The shape that SARIF 2.1.0 gives to what we write; nothing else may be in it. */
const Text = v.strictObject({ text: v.pipe(v.string(), v.minLength(1)) })
const Position = v.pipe(v.number(), v.integer(), v.minValue(1))
const Sarif = v.strictObject({
  $schema: v.literal('https://json.schemastore.org/sarif-2.1.0.json'),
  version: v.literal('2.1.0'),
  runs: v.tuple([
    v.strictObject({
      tool: v.strictObject({
        driver: v.strictObject({
          name: v.string(),
          version: v.string(),
          rules: v.array(v.strictObject({ id: v.string(), shortDescription: Text })),
        }),
      }),
      columnKind: v.literal('utf16CodeUnits'),
      results: v.array(
        v.strictObject({
          ruleId: v.string(),
          ruleIndex: v.pipe(v.number(), v.integer(), v.minValue(0)),
          level: v.picklist(['error', 'warning']),
          message: Text,
          locations: v.tuple([
            v.strictObject({
              physicalLocation: v.strictObject({
                artifactLocation: v.strictObject({ uri: v.pipe(v.string(), v.regex(/^[^\s\\]+$/)) }),
                region: v.strictObject({ startLine: Position, startColumn: Position }),
              }),
            }),
          ]),
        }),
      ),
    }),
  ]),
})

describe('reports', () => {
  const finding: Finding = {
    severity: 'fault',
    file: 'k8s/my app.yaml',
    line: 3,
    column: 4,
    code: 'NO_OBJECTS',
    message: 'it names no object',
    remedy: 'List at least one',
    secretProviderClass: 'web',
  }
  const warning: Finding = { ...finding, severity: 'warning', code: 'SPC_WARNING', line: 20 }
  const result: LintResult = { files: ['k8s/my app.yaml'], classes: 2, findings: [finding, warning] }

  it('as text: by file, one line each, then counts', () => {
    expect(textReport(result, false)).toBe(`k8s/my app.yaml
  3:4   fault    NO_OBJECTS   web: it names no object. List at least one.
  20:4  warning  SPC_WARNING  web: it names no object. List at least one.

2 classes in 1 file: 1 fault, 1 warning
`)
  })

  it('as quiet text: no warning, and nothing at all without a fault', () => {
    expect(textReport(result, true)).not.toContain('warning')
    expect(textReport({ ...result, findings: [warning] }, true)).toBe('')
  })

  it('as SARIF of the shape that 2.1.0 has, with a rule for every code', () => {
    const log = v.parse(Sarif, JSON.parse(JSON.stringify(sarifLog(result, '/repo'))))
    const [{ tool, results }] = log.runs
    expect(results.map(({ level }) => level)).toEqual(['error', 'warning'])
    for (const { ruleId, ruleIndex } of results) expect(tool.driver.rules[ruleIndex]?.id).toBe(ruleId)
    expect(results[0]?.locations[0].physicalLocation).toEqual({
      artifactLocation: { uri: 'k8s/my%20app.yaml' },
      region: { startLine: 3, startColumn: 4 },
    })
  })

  it('as SARIF name files of the directory relative to it, and others by URL', () => {
    const uri = (file: string) =>
      sarifLog({ ...result, findings: [{ ...finding, file }] }, '/repo').runs[0]?.results[0]?.locations[0]
        ?.physicalLocation.artifactLocation.uri
    expect(uri('/repo/a/b.yaml')).toBe('a/b.yaml')
    expect(uri('/else/b.yaml')).toBe('file:///else/b.yaml')
  })
})

describe('the command', () => {
  const clean = join(ROOT, 'examples/sops-inline.yaml')

  it('reads the standard input, and ends with 1 for a fault', () => {
    const { status, stdout } = keyferry(['lint', '-'], spc('awz', '  parameters: { a: b }'))
    expect(status).toBe(1)
    expect(stdout).toContain('stdin\n  5:13  fault  UNKNOWN_PROVIDER')
    expect(stdout).toContain('1 class in 1 file: 1 fault')
  })

  it('ends with 0 for warnings, and says nothing when quiet', () => {
    const text = spc('sops', '  parameters: { sopsFile: a.yaml, objekts: b }')
    const { status, stdout } = keyferry(['lint', '-'], text)
    expect(stdout).toContain('no faults, 1 warning')
    expect(status).toBe(0)
    expect(keyferry(['lint', '--quiet', '-'], text)).toEqual({ status: 0, stdout: '', stderr: '' })
  })

  it('prints SARIF for the examples of what goes wrong', () => {
    const { status, stdout } = keyferry(['lint', '--sarif', 'examples/bad/aws.yaml'])
    const log = v.parse(Sarif, JSON.parse(stdout))
    expect(log.runs[0].results.length).toBeGreaterThan(5)
    expect(status).toBe(1)
  })

  it.each([
    ['no file', ['lint'], /missing required argument/],
    ['a file that is not there', ['lint', 'nowhere.yaml'], /nowhere\.yaml: cannot be read \(ENOENT\)/],
    [
      'files without a class',
      ['lint', relative(ROOT, join(ROOT, 'package.json'))],
      /there is no SecretProviderClass/,
    ],
    ['two forms at once', ['lint', '--json', '--sarif', clean], /cannot be used with option/],
    ['a configuration that is not there', ['lint', '--config', 'nowhere.yaml', clean], /nowhere\.yaml/],
  ])('ends with 2 for %s', (_, args, message) => {
    const { status, stdout, stderr } = keyferry(args)
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
    expect(status).toBe(2)
  })

  it('knows the adapters, sockets and limits of a configuration', () => {
    const config = join(scratch, 'config.yaml')
    const adapter = join(scratch, 'adapter.mjs')
    writeFileSync(
      adapter,
      `const output = (path) => ({ kind: 'file', path, object: path, mode: 0o644, source: { backend: 'own' } })
       export const adapter = { dialects: [{ name: 'own', needs: {}, plan: () => ({ outputs: ['a', 'b'].map(output) }) }] }`,
    )
    writeFileSync(config, `adapters: [${adapter}]\nsockets: { dialects: [own] }\nlimits: { objects: 1 }\n`)
    const text = spc('own', '  parameters: { nothing: here }')
    expect(keyferry(['lint', '-'], text).stdout).toContain('provider "own" is not served')
    const known = keyferry(['lint', '--config', config, '-', clean], text)
    expect(known.stderr).toBe('')
    expect(known.stdout).toContain('TOO_MANY_OBJECTS')
    expect(known.stdout).not.toContain('provider "own" is not served')
    expect(known.stdout).toContain('provider "sops" is not served')
    expect(known.status).toBe(1)
  })

  it('tells a Helm template what to do instead', () => {
    const { stdout } = keyferry(['lint', '-'], 'a: {{ .Values.name }}\nb: {{- c }}\n')
    expect(stdout).toContain('helm template … | keyferry lint -')
  })
})
