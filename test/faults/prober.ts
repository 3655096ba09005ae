/** An API beside the crowd: asks the URL of the arguments about a token all the time, tells how long each answer took. */
const [url = '', authorization = '', token = ''] = process.argv.slice(2)
const took: number[] = []
const wrong: string[] = []
let going = true
process.on('message', () => {
  going = false
})
process.send!('ready')
while (going) {
  const began = performance.now()
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { authorization },
      body: new URLSearchParams({ token }),
    })
    const { active } = (await response.json()) as { active?: boolean }
    if (response.status !== 200 || active !== true) wrong.push(`${response.status} ${active}`)
  } catch (error) {
    wrong.push((error as Error).message)
  }
  took.push(performance.now() - began)
  await new Promise((resolve) => setTimeout(resolve, 20))
}
process.send!({ took, wrong })
