/** Mounts a tmpfs at `DIR/volume`, puts a file into it and waits to be killed: `node node-process.ts DIR`. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openMounts } from '../../src/driver/mounts.ts'

const volume = join(process.argv[2] ?? '.', 'volume')
const mounts = await openMounts('tmpfs')
mkdirSync(volume)
await mounts.mount(volume)
writeFileSync(mounts.at(`${volume}/inside`), 'x')
process.stdout.write(`mounted ${mounts.at(volume)}\n`)
