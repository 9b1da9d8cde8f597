/**
 * Owns the processes that the store's tests start and kill. First argument: what to do.
 * - `lock PATH GUARD`: take the lock again and again; print `broken` if it was not exclusive.
 * - `hold PATH`: take the lock, print `held`, keep it.
 * - `write ROOT`: write `payments/db` again and again, a different size each time.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { withLock } from '../../../../src/providers/sops/store/lock.ts'

const [task, path = '', guard = ''] = process.argv.slice(2)
const OPTIONS = { waitMs: 20_000, what: 'the test' }

async function lockLoop(): Promise<void> {
  for (let round = 0; ; round += 1) {
    await withLock(path, OPTIONS, async () => {
      if (existsSync(guard)) {
        const pid = Number(readFileSync(guard, 'utf8'))
        // A guard left by a process that was killed is no fault; one of a live process is.
        if (existsSync(`/proc/${pid}`)) process.stdout.write('broken\n')
      }
      writeFileSync(guard, String(process.pid))
      await sleep(1)
      rmSync(guard)
    })
    process.stdout.write(`round ${round}\n`)
  }
}

/** The published test identity of sops A19. */
const RECIPIENT = 'age16v07jna668e03nx4lfsklwvt23z9yxhyxrfy5p4497u5wkgxt56qmke6ls'

async function writeLoop(): Promise<void> {
  // Imported here: the lock's workers start much faster without the rest.
  const { changeDocument, openStore, parseSecretName } =
    await import('../../../../src/providers/sops/store/directory.ts')
  const { sealNewDocument } = await import('../../../../src/providers/sops/write/new-document.ts')
  const rule = { kind: 'unencrypted_suffix', text: '_unencrypted' } as const
  for (let round = 0; ; round += 1) {
    await changeDocument(openStore(path), parseSecretName('payments/db'), {
      expect: undefined,
      format: 'yaml',
      change: () =>
        sealNewDocument({
          format: 'yaml',
          values: [{ key: 'value', bytes: Buffer.alloc(1 + ((round * 7919) % 60_000), 0x61) }],
          subjects: ['payments/api'],
          encryption: { recipients: [RECIPIENT], rule, macOnlyEncrypted: false },
          now: new Date(),
        }),
    })
    process.stdout.write(`round ${round}\n`)
  }
}

if (task === 'lock') await lockLoop()
if (task === 'write') await writeLoop()
if (task === 'hold') {
  await withLock(path, OPTIONS, async () => {
    process.stdout.write('held\n')
    await sleep(60_000)
  })
}
