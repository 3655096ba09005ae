export async function demo(_options: { auto: boolean }): Promise<number> {
  return 1
}
