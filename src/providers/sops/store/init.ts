/** Owns making a new store: its directory, its creation rules and the identity that opens it (sops B2 `init`, T31). */
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join, resolve, sep } from 'node:path'
import { generateHybridIdentity, generateX25519Identity, identityToRecipient } from 'age-encryption'
import { WriteError } from '../write/error.ts'
import { checkRecipient } from '../write/recipients.ts'
import { safeDirectory } from './ancestors.ts'
import { createFile } from './atomic-file.ts'
import { CREATION_RULES_FILE, creationRulesText } from './creation-rules.ts'

export interface InitRequest {
  readonly root: string
  /** Where the private identity goes: outside the root, mode 0400. */
  readonly identityFile: string
  /** Public keys whose private halves are kept offline; empty only as an explicit waiver. */
  readonly recoveryRecipients: readonly string[]
  readonly postQuantum: boolean
  readonly now: Date
}

export interface Initialised {
  readonly root: string
  readonly identityFile: string
  /** Public half of the new identity. */
  readonly recipient: string
  /** All recipients of the creation rule, the new one first. */
  readonly recipients: readonly string[]
}

function isInside(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory + sep)
}

async function makeDirectory(path: string): Promise<string> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  return safeDirectory(path)
}

function refuseExisting(path: string): void {
  if (!existsSync(path)) return
  throw new WriteError(
    'conflict',
    `${path} exists and is left as it is`,
    'Choose another path. Overwriting an identity or the creation rules would make secrets unreadable.',
  )
}

/**
 * Creates root directory, identity file and `.sops.yaml`; overwrites nothing.
 * @throws WriteError
 */
export async function initStore(request: InitRequest): Promise<Initialised> {
  const { recoveryRecipients, postQuantum, now } = request
  for (const recipient of recoveryRecipients) checkRecipient(recipient)
  const wanted = resolve(request.root)
  if (isInside(resolve(request.identityFile), wanted)) {
    throw new WriteError(
      'usage',
      `the identity file ${request.identityFile} lies inside the store`,
      'Keep it elsewhere: a copy of the store must not contain the key that opens it.',
    )
  }
  const rulesFile = join(wanted, CREATION_RULES_FILE)
  refuseExisting(rulesFile)
  refuseExisting(request.identityFile)
  const root = await makeDirectory(wanted)
  const identityDirectory = await makeDirectory(dirname(resolve(request.identityFile)))
  if (isInside(identityDirectory, root)) {
    throw new WriteError('usage', `the identity file ${request.identityFile} lies inside the store`)
  }
  const identity = await (postQuantum ? generateHybridIdentity() : generateX25519Identity())
  const recipient = await identityToRecipient(identity)
  const recipients = [...new Set([recipient, ...recoveryRecipients])]
  const text = `# created: ${now.toISOString()}\n# public key: ${recipient}\n${identity}\n`
  const bytes = Buffer.from(text)
  try {
    await createFile(request.identityFile, bytes, 0o400)
  } finally {
    bytes.fill(0)
  }
  await createFile(rulesFile, Buffer.from(creationRulesText(recipients)), 0o600)
  return { root, identityFile: request.identityFile, recipient, recipients }
}
