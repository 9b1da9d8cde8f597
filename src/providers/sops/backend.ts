/** Owns the backend `sops`: opens each document of a mount once and takes files out of it. */
import * as v from 'valibot'
import { BackendError, type Backend, type BackendContext, type Host, type Value } from '../adapter.ts'
import { notBound, requireBinding, withoutBinding } from './binding.ts'
import { requireProof } from './caller-proof.ts'
import { BACKEND_KIND } from './dialect.ts'
import { sopsError } from './errors.ts'
import { identitySet, warnAboutSwap, type IdentitySet } from './identities.ts'
import type { KeyRing } from './keys/data-key.ts'
import { withinLimit, type Limits } from './limits.ts'
import { closeDocument, openDocument, type OpenedDocument } from './open.ts'
import { documentKey, formatOfFile, inlineBytes, refKey, versionOf, type SopsRef } from './ref.ts'
import { refOf } from './ref-item.ts'
import { limitsOf, settingsSchema, type Settings } from './settings.ts'
import { readSopsFile } from './source.ts'
import { matchesSubject, parseSubject } from './subjects.ts'
import { createTurns, type Turns } from './turns.ts'
import { taken, type Found, type Ready } from './take.ts'

/** A store of this kind needs no settings: roots and identities are the operator's. */
const storeSchema = v.strictObject({})

interface Node {
  readonly settings: Settings
  readonly limits: Limits
  readonly identities: IdentitySet
  readonly keyService: BackendContext['keyService']
  readonly turns: Turns
}

async function find(ref: SopsRef, host: Host, { settings, limits }: Node): Promise<readonly Found[]> {
  const { source, format } = ref
  if (!('file' in source)) {
    const bytes = inlineBytes(source)
    withinLimit(limits, 'inlineBytes', bytes.length)
    return [{ name: 'sopsDocument', format: format ?? 'binary', bytes }]
  }
  const files = await readSopsFile(settings.roots, source.file, host.pod.namespace, limits)
  return files.map(({ name, bytes }) => ({ name, bytes, format: format ?? formatOfFile(name) }))
}

/** What may be tried for a caller. */
async function ringFor(ref: SopsRef, host: Host, node: Node): Promise<KeyRing> {
  const { namespace, serviceAccount } = host.pod
  const caller = { namespace, serviceAccount }
  if (ref.keyIdentity === 'provider') {
    const subjects = node.settings.providerIdentity.subjects.flatMap((text) => parseSubject(text) ?? [])
    const isAllowed = subjects.some((subject) => matchesSubject(subject, caller))
    if (!isAllowed || ref.caller !== `${namespace}/${serviceAccount}` || host.identity !== 'node') {
      throw sopsError(
        'IDENTITY_NOT_ALLOWED',
        'keyIdentity: provider is not allowed for this service account',
        'Let the operator add it to backends.sops.providerIdentity.subjects.',
      )
    }
  }
  const identities = await node.identities.for(caller)
  return ref.keyIdentity === 'offline'
    ? { identities }
    : { identities, services: { of: node.keyService, host } }
}

/** Names the document in an error, where there may be several; a caller who is not meant is told the same of all. */
function inDocument(error: unknown, name: string): unknown {
  if (!(error instanceof BackendError) || error.code === 'NOT_BOUND') return error
  const { kind, code, remedy, retryAfterMs, indirect } = error
  return new BackendError({
    kind,
    code,
    indirect,
    message: `${name}: ${error.message}`,
    ...(remedy === undefined ? {} : { remedy }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  })
}

async function open(found: Found, ring: KeyRing, host: Host, node: Node): Promise<Ready> {
  let opened: OpenedDocument | undefined
  try {
    opened = await openDocument(found.format, found.bytes, ring, node.limits, node.turns(found.bytes.length))
    requireBinding(opened, host.pod, node.settings.allowEveryone)
    return { ...found, opened, branches: withoutBinding(opened), version: versionOf(found.bytes) }
  } catch (error) {
    if (opened !== undefined) closeDocument(opened)
    throw inDocument(error, found.name)
  }
}

/** Opens the documents of refs that share one, and answers each ref. */
async function answer(
  refs: readonly SopsRef[],
  host: Host,
  node: Node,
): Promise<readonly (Value | BackendError)[]> {
  const [first] = refs
  if (first === undefined) return []
  const ready: Ready[] = []
  try {
    // Who is nobody can be meant by no binding.
    if (host.pod.namespace === '' || host.pod.serviceAccount === '') throw notBound()
    const found = await find(first, host, node)
    const ring = await ringFor(first, host, node)
    for (const document of found) ready.push(await open(document, ring, host, node))
    return refs.map((ref) => {
      try {
        return taken(ref, ready, node.limits)
      } catch (error) {
        if (error instanceof BackendError) return error
        throw error
      }
    })
  } catch (error) {
    if (!(error instanceof BackendError)) throw error
    return refs.map(() => error)
  } finally {
    for (const { opened } of ready) closeDocument(opened)
  }
}

async function resolve(
  refs: readonly SopsRef[],
  host: Host,
  node: Node,
): Promise<readonly (Value | BackendError)[]> {
  const groups = new Map<string, number[]>()
  refs.forEach((ref, index) => {
    const key = documentKey(ref)
    groups.set(key, [...(groups.get(key) ?? []), index])
  })
  const answers: (Value | BackendError)[] = []
  // One document after the other: their decrypted trees never stand in memory together.
  for (const indexes of groups.values()) {
    const values = await answer(
      indexes.flatMap((index) => refs[index] ?? []),
      host,
      node,
    )
    indexes.forEach((index, i) => {
      const value = values[i]
      if (value !== undefined) answers[index] = value
    })
  }
  return answers
}

/**
 * The backend. Key services come from other adapters, through the context.
 * @throws when the settings are not valid; the configuration was checked before
 */
export function sopsBackend(context: BackendContext): Backend<Readonly<Record<string, never>>, SopsRef> {
  const settings = v.parse(settingsSchema, context.settings)
  const node: Node = {
    settings,
    limits: limitsOf(settings),
    identities: identitySet(settings.identities, settings.pgp.passphraseFile, context),
    keyService: (kind) => context.keyService(kind),
    turns: createTurns(),
  }
  void warnAboutSwap(context.log)
  return {
    kind: BACKEND_KIND,
    storeSchema,
    ref: refOf,
    refKey,
    admit: (host) => requireProof(settings.callerProof, host),
    keys: (_store, { source }) => ['file' in source ? source.file : 'sopsDocument'],
    resolve: (_store, refs, host) => resolve(refs, host, node),
  }
}
