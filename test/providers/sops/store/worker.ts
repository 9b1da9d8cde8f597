/**
 * Owns the processes that the store's tests start and kill. First argument: what to do.
 * - `lock PATH GUARD`: take the lock again and again; print `broken` if it was not exclusive.
 * - `hold PATH`: take the lock, print `held`, keep it.
 * - `write ROOT`: write `payments/db` again and again, a different size each time.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { changeDocument, openStore, parseSecretName } from '../../../../src/providers/sops/store/directory.ts'
import { withLock } from '../../../../src/providers/sops/store/lock.ts'
import { sealNewDocument } from '../../../../src/providers/sops/write/new-document.ts'
import { ENCRYPTION } from '../write/samples.ts'

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

async function writeLoop(): Promise<void> {
  for (let round = 0; ; round += 1) {
    await changeDocument(openStore(path), parseSecretName('payments/db'), {
      expect: undefined,
      format: 'yaml',
      change: () =>
        sealNewDocument({
          format: 'yaml',
          values: [{ key: 'value', bytes: Buffer.alloc(1 + ((round * 7919) % 60_000), 0x61) }],
          subjects: ['payments/api'],
          encryption: ENCRYPTION,
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
