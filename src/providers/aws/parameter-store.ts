/** Owns the backend `aws-parameter-store`: parameters by name or ARN with version or label, ten a call. */
import type { GetParametersCommandOutput, Parameter, SSMClient } from '@aws-sdk/client-ssm'
import type * as SdkModule from '@aws-sdk/client-ssm'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Backend, BackendContext, Host, RefItem, Value } from '../adapter.ts'
import { BackendError, PlanError } from '../adapter.ts'
import type { SessionOpener } from './credentials.ts'
import { sessionOpener } from './credentials.ts'
import { AwsFailure, backendError, failureOf } from './failures.ts'
import { matching } from './parameter-matching.ts'
import type { ParameterQuery } from './parameter-matching.ts'
import { arnRegionFault, splitSelector } from './names.ts'
import { jsonParts, prefixParts } from './parts.ts'
import { refArguments } from './ref-arguments.ts'
import { limiter, NAMESPACE_SHARE, type Limiter } from '../../net/limiter.ts'
import { askRegions } from './regions.ts'
import { againAfterClockSkew, clientConfig } from './sdk.ts'
import type { AwsEnvironment, AwsStore } from './settings.ts'
import { awsEnvironment, regionsOf, storeSchema } from './settings.ts'

export const PARAMETER_STORE = 'aws-parameter-store'

/** A parameter, and what it is called in the failover region where that differs. */
export interface ParameterRef extends ParameterQuery {
  readonly failover?: ParameterQuery
  /** `json`: one part for each top-level scalar. `prefix`: one part for each parameter below the path `name`. */
  readonly expand?: 'json' | 'prefix'
}

const BATCH_SIZE = 10
const PER_PROCESS = 64

export function parameterStoreBackend(context: BackendContext): Backend<AwsStore, ParameterRef> {
  const environment = awsEnvironment(context)
  const sessions = sessionOpener(environment)
  const slot = limiter(PER_PROCESS, NAMESPACE_SHARE)
  return {
    kind: PARAMETER_STORE,
    storeSchema,
    ref: parameterRef,
    refKey: (ref) =>
      JSON.stringify([requestName(ref), ref.expand ?? '', ref.failover ? requestName(ref.failover) : '']),
    keys: (_store, ref) => keysOf(ref),
    resolve: async (store, refs, host) => {
      const mount: ParameterMount = { environment, sessions, store, host, slot }
      const regions = await regionsOf(store, environment, host)
      const answers = new Map<ParameterRef, Value | BackendError>()
      const single = refs.filter((ref) => ref.expand !== 'prefix')
      const chunks = Array.from({ length: Math.ceil(single.length / BATCH_SIZE) }, (_, i) =>
        single.slice(i * BATCH_SIZE, (i + 1) * BATCH_SIZE),
      )
      await Promise.all([
        ...chunks.map(async (chunk) => {
          for (const [ref, answer] of await chunkAnswers(mount, regions, chunk)) answers.set(ref, answer)
        }),
        ...refs
          .filter((ref) => ref.expand === 'prefix')
          .map(async (ref) => answers.set(ref, await pathAnswer(mount, regions, ref.name))),
      ])
      return refs.map((ref) => answers.get(ref) ?? missing(regions[0], ref))
    },
  }
}

/** What AWS is asked for, for policy: spaces around a name do not count. */
function keysOf({ name, expand, failover }: ParameterRef): readonly string[] {
  const names = [name, ...(failover === undefined ? [] : [failover.name])].map((one) => one.trim())
  return expand === 'prefix' ? names.flatMap((one) => [one, `${one}/**`]) : names
}

/** `name`, `name:version` or `name:label`, as GetParameters wants it. */
function requestName(query: ParameterQuery): string {
  return query.selector === undefined ? query.name : `${query.name}:${query.selector}`
}

/** @throws PlanError */
function parameterRef(item: RefItem): ParameterRef {
  const args = refArguments(item, ['label', 'expand'])
  const { name, selector } = splitSelector(item.key)
  const expand = args.get('expand')
  const wanted = [item.version, args.get('label'), selector].filter((one) => one !== undefined)
  const refuse = (message: string): PlanError =>
    new PlanError([{ code: 'INVALID_PARAMETER', message: `"${item.key}": ${message}` }])
  if (expand !== undefined && expand !== 'json' && expand !== 'prefix')
    throw refuse('expand is json or prefix')
  if (wanted.length > 1) throw refuse('more than one of version, label and a selector in the name')
  if (expand === 'prefix' && wanted.length > 0) throw refuse('a prefix takes neither version nor label')
  return {
    name,
    ...(wanted[0] === undefined ? {} : { selector: wanted[0] }),
    ...(expand === undefined ? {} : { expand }),
  }
}

/** One call of `resolve`. */
interface ParameterMount {
  readonly environment: AwsEnvironment
  readonly sessions: SessionOpener
  readonly store: AwsStore
  readonly host: Host
  readonly slot: Limiter
}

type Sdk = typeof SdkModule

/** @throws AwsFailure */
async function call<T>(
  { environment, sessions, store, host, slot }: ParameterMount,
  region: string,
  send: (client: SSMClient, sdk: Sdk) => Promise<T>,
): Promise<T> {
  const [sdk, session] = await Promise.all([
    import('@aws-sdk/client-ssm'),
    sessions.open(store, region, host),
  ])
  const client = session.client(
    `${PARAMETER_STORE} ${region}`,
    () => new sdk.SSMClient(clientConfig(host.http, environment, 'ssm', region, session.source)),
  )
  return slot(async () => {
    try {
      return await againAfterClockSkew(() => send(client, sdk))
    } catch (error) {
      const failure = failureOf(error)
      if (failure.kind === 'unauthenticated') await sessions.drop(store, region, host)
      throw failure
    }
  }, host.pod.namespace)
}

type Answers = ReadonlyMap<ParameterRef, Value | AwsFailure>

/** The unit of failover is the call of ten. */
async function chunkAnswers(
  mount: ParameterMount,
  regions: readonly [string, string?],
  refs: readonly ParameterRef[],
): Promise<ReadonlyMap<ParameterRef, Value | BackendError>> {
  const secondQuery = (ref: ParameterRef): ParameterQuery => ref.failover ?? ref
  let answeredBy = regions[0]
  try {
    const answers = await askRegions<Answers>(
      regions,
      {
        ask: async (region, second) => {
          answeredBy = region
          return parameters(mount, region, refs, second ? secondQuery : (ref) => ref)
        },
        check:
          mount.store.failoverMode === 'eager'
            ? async (region) => {
                const found = await parameters(mount, region, refs, secondQuery)
                for (const answer of found.values()) if (answer instanceof AwsFailure) throw answer
              }
            : undefined,
      },
      mount.host,
    )
    return new Map([...answers].map(([ref, answer]) => [ref, delivered(ref, answer, answeredBy)]))
  } catch (error) {
    if (!(error instanceof BackendError)) throw error
    return new Map(refs.map((ref) => [ref, error]))
  }
}

function delivered(ref: ParameterRef, answer: Value | AwsFailure, region: string): Value | BackendError {
  if (answer instanceof AwsFailure) return backendError([{ region, failure: answer }])
  if (ref.expand !== 'json') return answer
  try {
    return { ...answer, parts: jsonParts(answer, ref.name) }
  } catch (error) {
    if (error instanceof BackendError) return error
    throw error
  }
}

/** One GetParameters. Every ref gets an answer of its own. @throws AwsFailure when the call fails. */
async function parameters(
  mount: ParameterMount,
  region: string,
  refs: readonly ParameterRef[],
  queryOf: (ref: ParameterRef) => ParameterQuery,
): Promise<Answers> {
  const queries = refs.map(queryOf).filter(({ name }) => arnRegionFault(name, region) === undefined)
  const names = [...new Set(queries.map(requestName))]
  const reply: Pick<GetParametersCommandOutput, 'Parameters' | 'InvalidParameters'> =
    names.length === 0
      ? {}
      : await call(mount, region, (client, sdk) =>
          client.send(new sdk.GetParametersCommand({ Names: names, WithDecryption: true }), {
            abortSignal: mount.host.signal,
          }),
        )
  const invalid = new Set(reply.InvalidParameters ?? [])
  const found = reply.Parameters ?? []
  return new Map(refs.map((ref) => [ref, answerFor(queryOf(ref), region, invalid, found, queries)]))
}

function answerFor(
  query: ParameterQuery,
  region: string,
  invalid: ReadonlySet<string>,
  found: readonly Parameter[],
  queries: readonly ParameterQuery[],
): Value | AwsFailure {
  const fault = arnRegionFault(query.name, region)
  if (fault !== undefined) return fault
  if (invalid.has(requestName(query)))
    return new AwsFailure({
      kind: 'not-found',
      final: true,
      awsCode: 'InvalidParameters',
      message: `InvalidParameters: ${requestName(query)} does not exist`,
    })
  const parameter = matching(query, found, queries)
  return parameter === undefined ? incomplete(query) : valueOf(parameter)
}

function incomplete(query: ParameterQuery): AwsFailure {
  return new AwsFailure({
    kind: 'malformed',
    code: 'AWS_INCOMPLETE',
    awsCode: 'incomplete',
    message: `the answer does not mention ${requestName(query)}`,
  })
}

/** Never reached: every ref is in a chunk. */
function missing(region: string, ref: ParameterRef): BackendError {
  return backendError([{ region, failure: incomplete(ref) }])
}

function valueOf(parameter: Parameter): Value | AwsFailure {
  const { Value: text, Version: version } = parameter
  // References to secrets report version 0.
  if (text === undefined || version === undefined)
    return new AwsFailure({
      kind: 'malformed',
      awsCode: 'malformed',
      message: text === undefined ? 'the answer has no Value' : 'the answer has no Version',
    })
  return { bytes: SecretBytes.copyOf(text), version: String(version) }
}

async function pathAnswer(
  mount: ParameterMount,
  regions: readonly [string, string?],
  path: string,
): Promise<Value | BackendError> {
  try {
    return await askRegions<Value>(regions, { ask: (region) => belowPath(mount, region, path) }, mount.host)
  } catch (error) {
    if (error instanceof BackendError) return error
    throw error
  }
}

/** Every parameter below a path, page by page. */
async function belowPath(mount: ParameterMount, region: string, path: string): Promise<Value> {
  const found: { name: string; value: Value }[] = []
  let next: string | undefined
  do {
    const page = await call(mount, region, (client, sdk) =>
      client.send(
        new sdk.GetParametersByPathCommand({
          Path: path,
          Recursive: true,
          WithDecryption: true,
          ...(next ? { NextToken: next } : {}),
        }),
        { abortSignal: mount.host.signal },
      ),
    )
    for (const parameter of page.Parameters ?? []) {
      const value = valueOf(parameter)
      if (value instanceof AwsFailure) throw value
      found.push({ name: parameter.Name ?? '', value })
    }
    next = page.NextToken
  } while (next)
  return prefixParts(path.endsWith('/') ? path : `${path}/`, found)
}
