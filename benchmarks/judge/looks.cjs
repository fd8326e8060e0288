// Apparent age and probability of male for training/evaluate/looks.py: node looks.cjs DIR < requests > answers
//
// DIR and requests: face_api.cjs. An answer is {"age": years, "male": 0..1}, of nulls where no face is found.
const { serve } = require("./face_api.cjs");

serve("ageGenderNet", (face) => face.withAgeAndGender(), (face) => {
  if (!face) return { age: null, male: null };
  return { age: face.age, male: face.gender === "male" ? face.genderProbability : 1 - face.genderProbability };
});
