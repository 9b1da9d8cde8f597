/** Owns a volume's target directory: whether it is mounted, when it changed, making and clearing it (driver.md sections 4, 5). */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { Refusal, type Driver } from './driver.ts'
import { errnoOf, errnoText } from './go-text.ts'

/** When the root of the target last changed; undefined if there is none. */
export function lastUpdate(driver: Driver, targetPath: string): number | undefined {
  try {
    return driver.clock.at(fs.statSync(driver.mounts.at(targetPath)).mtimeMs)
  } catch (error) {
    driver.log(`could not find last modification time for targetpath: ${errnoText(errnoOf(error))}`)
    return undefined
  }
}

/** Whether something is mounted there already. Creates a missing directory. */
export async function ensureMountPoint(driver: Driver, targetPath: string): Promise<boolean> {
  const { mounts } = driver
  try {
    if (!mounts.isMountPoint(targetPath)) return false
    try {
      fs.readdirSync(mounts.at(targetPath))
      return true
    } catch {
      await mounts.unmount(targetPath) // mounted, but broken: mounted anew
      return false
    }
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') {
      const text = `failed to check if target path ${targetPath} is mount point, err: ${textOf(error)}`
      throw new Refusal('Internal', 'FailedToEnsureMountPoint', text)
    }
  }
  try {
    fs.mkdirSync(mounts.at(targetPath), { recursive: true, mode: 0o750 })
  } catch (error) {
    const text = `failed to create target path ${targetPath}, err: mkdir ${targetPath}: ${errnoText(errnoOf(error))}`
    throw new Refusal('Internal', 'FailedToMount', text)
  }
  return false
}

/** Empties, unmounts and removes a target; nothing happens if it is gone. Throws an Error with the driver's text. */
export async function clearTarget({ mounts, log }: Driver, targetPath: string): Promise<void> {
  const dir = mounts.at(targetPath)
  if (!fs.existsSync(dir)) return
  for (const name of fs.readdirSync(dir)) {
    try {
      fs.rmSync(join(dir, name), { recursive: true, force: true })
    } catch (error) {
      log(`failed to delete file from target path: ${errnoText(errnoOf(error))}`)
    }
  }
  if (mounts.isMountPoint(targetPath)) await mounts.unmount(targetPath)
  fs.rmdirSync(dir)
}

/** The message of whatever was thrown. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
