/** The dialect by itself: pure, total over hostile text, every fault at once. */
import { planNow } from '../../../src/mount/planner.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Plan, PlanRequest } from '../../../src/providers/adapter.ts'
import { PlanError } from '../../../src/providers/adapter.ts'
import { dialect } from '../../../src/providers/aws/dialect.ts'

const request = (parameters: Record<string, string>): PlanRequest => ({
  pod: { name: 'web-0', namespace: 'shop', uid: 'u', serviceAccount: 'web' },
  parameters: new Map(Object.entries(parameters)),
  nodePublishKeys: new Set(),
  defaultMode: 0o644,
  provider: 'aws',
})
const plan = (parameters: Record<string, string>): Plan => planNow(dialect, request(parameters))

function codes(parameters: Record<string, string>): string[] {
  try {
    plan(parameters)
  } catch (error) {
    if (error instanceof PlanError) return error.problems.map(({ code }) => code)
    throw error
  }
  return []
}

const FIELDS = [
  'objectName',
  'objectType',
  'objectAlias',
  'objectVersion',
  'objectVersionLabel',
  'filePermission',
  'objectEncoding',
  'jmesPath',
  'failoverObject',
  'path',
  '__proto__',
  'constructor',
]
const TEXTS = [
  '',
  'arn::',
  'arn:aws:ssm:us-east-1:1:parameter/x:3',
  'a/../b',
  '..',
  '/',
  '\u0000',
  '\ud800',
  'secretsmanager',
  'ssmparameter',
  '0400',
  'merge(a, `1`)',
  '&',
  '*',
  '`',
]
const text = fc.oneof(fc.constantFrom(...TEXTS), fc.string({ maxLength: 30 }))
const { object } = fc.letrec((tie) => ({
  object: fc.dictionary(
    fc.constantFrom(...FIELDS),
    fc.oneof({ maxDepth: 4 }, text, fc.integer(), tie('list'), tie('object')),
  ),
  list: fc.array(fc.oneof({ maxDepth: 4 }, text, tie('object')), { maxLength: 3 }),
}))

describe('hostile parameters', () => {
  it('any objects document gives a plan or a PlanError, and files that the vendor’s rules allow', () => {
    fc.assert(
      fc.property(fc.array(object, { maxLength: 4 }), fc.boolean(), (objects, off) => {
        try {
          const { outputs } = plan({
            objects: JSON.stringify(objects),
            region: 'us-east-1',
            ...(off ? { pathTranslation: 'False' } : {}),
          })
          for (const output of outputs) {
            expect(output.mode).toBeLessThanOrEqual(0o777)
            if (output.kind === 'file') expect(output.path.startsWith('..') || output.path === '').toBe(false)
          }
        } catch (error) {
          if (!(error instanceof PlanError)) throw error
          expect(error.problems.length).toBeGreaterThan(0)
          for (const { code } of error.problems) expect(code).toMatch(/^AWS_[A-Z_]+$/)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('any text as objects gives a plan or a PlanError', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...Array.from('-:[]{}&*!|>"\' \n\tab0?,#%@`<~')), maxLength: 60 }),
        (text) => {
          codes({ objects: text, region: 'us-east-1' })
        },
      ),
      { numRuns: 300 },
    )
  })

  it('any parameter gives a plan or a PlanError', () => {
    const names = [
      'region',
      'failoverRegion',
      'failoverMode',
      'pathTranslation',
      'usePodIdentity',
      'preferredAddressType',
      'assumeRoleArn',
      'assumeRoleExternalId',
      'assumeRoleDurationSeconds',
      'jmesPathStrict',
    ]
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...names), text), (parameters) => {
        codes({ ...parameters, objects: '[{objectName: a, objectType: ssmparameter}]' })
      }),
      { numRuns: 500 },
    )
  })

  it('T17 long and deep documents are answered quickly', () => {
    const hostile = [
      '['.repeat(100_000),
      `- {objectName: ${'a'.repeat(500_000)}, objectType: secretsmanager}`,
      JSON.stringify(
        Array.from({ length: 3000 }, (_, i) => ({ objectName: `s${i}`, objectType: 'ssmparameter' })),
      ),
      `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c]`,
    ]
    const started = performance.now()
    for (const text of hostile) codes({ objects: text, region: 'us-east-1' })
    expect(performance.now() - started).toBeLessThan(3000)
  })
})

describe('plans', () => {
  it('are equal for equal requests, and plain data as far as keys go', () => {
    const parameters = {
      objects: '[{objectName: a, objectType: secretsmanager}]',
      failoverRegion: 'eu-west-1',
    }
    const [first, second] = [plan(parameters), plan(parameters)]
    expect(JSON.stringify(first)).toBe(JSON.stringify(second))
    expect(first.outputs[0]?.source).toEqual({
      backend: 'aws-secrets-manager',
      identity: 'pod',
      store: { failoverRegion: 'eu-west-1' },
      ref: { id: 'a', failover: { id: 'a' } },
    })
  })

  it('a failoverObject without name still lends its label to the second region', () => {
    const objects = '[{objectName: a, objectType: secretsmanager, failoverObject: {objectVersionLabel: L}}]'
    expect(plan({ objects, failoverRegion: 'eu-west-1' }).outputs[0]?.source.ref).toEqual({
      id: 'a',
      failover: { id: 'a', stage: 'L' },
    })
  })

  it('every fault is reported, with its line', () => {
    const objects = '- objectName: a\n  objectType: x\n- objectType: ssmparameter\n'
    try {
      plan({
        objects,
        usePodIdentity: 'maybe',
        pathTranslation: '--',
        region: 'us-east-1',
        failoverRegion: 'us-east-1',
      })
      expect.unreachable()
    } catch (error) {
      expect((error as PlanError).problems.map(({ code, line }) => [code, line])).toEqual([
        ['AWS_SAME_REGION', undefined],
        ['AWS_BAD_TRANSLATION', undefined],
        ['AWS_BAD_BOOL', undefined],
        ['AWS_BAD_TYPE', 1],
        ['AWS_NO_NAME', 3],
      ])
    }
  })

  it('aws 4 the same name as secret and as parameter needs aliases', () => {
    const two = (alias: string): string =>
      `[{objectName: a, objectType: secretsmanager}, {objectName: a, objectType: ssmparameter, objectAlias: '${alias}'}]`
    expect(codes({ objects: two('') })).toEqual(['AWS_DUPLICATE'])
    expect(codes({ objects: two('b') })).toEqual([])
  })
})
