/** Owns the operator's settings: `backends.sops` of the configuration file. */
import * as v from 'valibot'
import { callerProofSchema } from './caller-proof.ts'
import { DEFAULT_LIMITS, type Limits } from './limits.ts'
import { parseSubject } from './subjects.ts'

const absolutePath = v.pipe(v.string(), v.startsWith('/', 'must be an absolute path'))
const subject = v.pipe(
  v.string(),
  v.check(
    (text) => parseSubject(text) !== undefined,
    'must be a subject: namespace/serviceaccount, * for a whole segment',
  ),
)
const count = v.pipe(v.number(), v.integer(), v.minValue(1))

const identity = v.pipe(
  v.strictObject({
    path: v.pipe(
      absolutePath,
      v.description(
        'An identity file, or a directory of *.agekey (age, SSH) and *.asc (PGP) files; mode 0400.',
      ),
    ),
    subjects: v.optional(
      v.pipe(
        v.array(subject),
        v.minLength(1),
        v.description('Service accounts for whom it may be tried: ["payments/*"].'),
      ),
    ),
    shared: v.optional(
      v.pipe(v.boolean(), v.description('Tried for everyone; opens only documents that carry csi_bind.')),
    ),
    perNamespace: v.optional(
      v.pipe(
        v.boolean(),
        v.description('path holds one directory a namespace; its identities serve that namespace.'),
      ),
    ),
  }),
  v.check(
    (entry) =>
      [entry.subjects !== undefined, entry.shared === true, entry.perNamespace === true].filter(Boolean)
        .length === 1,
    'needs exactly one of subjects, shared: true, perNamespace: true',
  ),
)

const limitEntries = Object.fromEntries(
  (Object.keys(DEFAULT_LIMITS) as (keyof Limits)[]).map((name) => [name, v.optional(count)]),
) as { [Name in keyof Limits]: v.OptionalSchema<typeof count, undefined> }

/** Shape of `backends.sops`. Everything has a default: nothing is readable until it is named here. */
export const settingsSchema = v.strictObject({
  roots: v.optional(
    v.pipe(
      v.array(
        v.strictObject({
          path: v.pipe(absolutePath, v.description('Directory of encrypted documents.')),
          namespaced: v.optional(
            v.pipe(v.boolean(), v.description('The first path segment must be the namespace of the pod.')),
            true,
          ),
        }),
      ),
      v.description('Directories that sopsFile may name; the first that has the file wins.'),
    ),
    [],
  ),
  identities: v.optional(v.pipe(v.array(identity), v.description('Private keys and whom they serve.')), []),
  allowEveryone: v.optional(
    v.pipe(
      v.boolean(),
      v.description('Whether csi_bind may be */*, i.e. every service account of the cluster.'),
    ),
    false,
  ),
  providerIdentity: v.optional(
    v.strictObject({
      subjects: v.pipe(
        v.array(subject),
        v.description('Service accounts that may use keyIdentity: provider.'),
      ),
    }),
    { subjects: [] },
  ),
  callerProof: v.optional(
    v.pipe(callerProofSchema, v.description("What a caller has to show besides kubelet's attributes.")),
    { level: 'attributes' },
  ),
  pgp: v.optional(
    v.strictObject({
      passphraseFile: v.optional(
        v.pipe(absolutePath, v.description('Passphrase of all locked PGP keys; mode 0400.')),
      ),
    }),
    {},
  ),
  limits: v.optional(v.pipe(v.strictObject(limitEntries), v.description('Bounds on a document.')), {}),
})

export type Settings = v.InferOutput<typeof settingsSchema>

/** The limits with the operator's changes. */
export function limitsOf(settings: Settings): Limits {
  const changed = Object.entries(settings.limits).filter(([, value]) => value !== undefined)
  return { ...DEFAULT_LIMITS, ...Object.fromEntries(changed) }
}
