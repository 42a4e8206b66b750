"""Captions as people write them in nine languages: with their punctuation, apostrophes, marks and digits."""

CAPTIONS = {
    "en": """A man's dog runs through the snow.
Two girls in red T-shirts play with a ball.
A black-and-white cat sleeps on the sofa!
The boy is looking at his mother's camera.
A woman rides a bicycle along the river.
Three people sit at a table, and one of them laughs.
An old man with a hat reads the newspaper.
A small child jumps into the water.
Several birds fly over the sea at sunset.
The player in the blue shirt kicks the ball.
A brown horse stands in front of a fence.
People are walking across a busy street.
A girl's hair blows in the wind.
Some children play on a slide in the park.
A man climbs a steep rock wall.
The dog catches a frisbee in mid-air.
A red car is parked beside the house.
Two boats lie on the beach.
A woman in a green coat waits for the bus.
The baby is holding a yellow cup.
A cyclist rides down a forest path.
Four friends pose for a picture.
A white dog with brown ears sits on the grass.
The skier is coming down the hill.""",
    "de": """Ein großer Hund läuft über die Straße.
Zwei Mädchen in roten Jacken spielen im Schnee.
„Wie geht's?“, fragt der Mann mit dem Hut.
Eine schwarz-weiße Katze schläft auf dem Sofa!
Die Fußballspieler laufen über den Rasen.
Ein Junge wirft einen Ball – und sein Bruder fängt ihn.
Drei Kühe stehen auf einer grünen Wiese.
Eine Frau fährt mit dem Fahrrad am Fluß entlang.
Der alte Mann liest in der Küche die Zeitung.
Kinder rutschen im Park eine Rutsche hinunter.
Ein weißes Boot liegt am Strand.
Mehrere Vögel fliegen über das Meer.
Der Skifahrer trägt eine blaue Mütze.
Ein Mann klettert an einer steilen Felswand.
Die Geschwindigkeitsbegrenzung beträgt 30 km.
Zwei Freunde sitzen an einem Tisch und lachen.
Ein braunes Pferd steht hinter einem Zaun.
Das Baby hält eine gelbe Tasse.
Ein Zug fährt um 10:30 durch den Bahnhof.
Eine Gruppe von Leuten wartet auf den Bus.
Der Käufer bezahlt 3,50 für Äpfel.
Eine Ärztin steht vor dem Krankenhaus.
Hans' Hund springt ins Wasser.
Über der Stadt geht die Sonne unter.""",
    "fr": """L'objet est dans l'herbe.
Aujourd'hui, l’homme marche au bord de l’eau !
Une fille d'environ dix ans joue avec un chien.
Qu'est-ce que l'enfant tient à la main ?
Deux garçons sautent d'un rocher dans l'océan.
Un chat noir et blanc dort sur le canapé.
« C'est l'été », dit la femme au chapeau.
Quelqu'un court sur la plage jusqu'au phare.
L'équipe porte des maillots rouges et bleus.
Un vieil homme lit le journal près d'un arbre.
Il y a-t-il quelqu'un sur le bateau ?
Des oiseaux s'envolent au-dessus du lac.
La voiture est garée à côté de l'hôtel.
Un cycliste descend un sentier de forêt.
Trois amis s'assoient à une table en bois.
Le bébé n'aime pas l'eau froide.
Une femme achète 2,5 kilos de pommes.
Le train part à 10:30 de la gare.
Un cerf-volant jaune vole dans le ciel.
L'œuf est dans une boîte sur l'étagère.
Un skieur en combinaison bleue dévale la pente.
Des gens attendent l'autobus sous la pluie.
Le chien qu'elle promène saute par-dessus l'obstacle.
Une petite fille souffle ses bougies d'anniversaire.""",
    "it": """L'uomo cammina sull'erba.
Un'altra ragazza gioca con un po' d'acqua.
Il cane dell'amico corre nell'acqua.
C'è un gatto bianco e nero sul divano.
Due bambini saltano dall'alto di una roccia.
«Com'è bello!», dice la donna con il cappello.
Una donna va in bicicletta lungo il fiume.
Quest'auto rossa è parcheggiata davanti all'albergo.
Tre amici siedono a un tavolo di legno.
L’anziano legge il giornale vicino all’albero.
Alcuni uccelli volano sopra il mare.
Un ragazzo lancia la palla a un altro.
Il treno parte alle 10:30 dalla stazione.
La bambina compra 2,5 chili di mele.
Un cavallo marrone sta dietro lo steccato.
Quell'aquilone giallo vola nel cielo.
La gente aspetta l'autobus sotto la pioggia.
Il neonato tiene in mano una tazza gialla.
Uno sciatore scende lungo la pista.
C'era un'automobile blu; ora non c'è più.
Dov'è il cane? È sull'altra riva.
Un gruppo di persone posa per una foto.
Il pescatore è sulla barca all'alba.
La città è piena di luci.""",
    "es": """¿Dónde está el perro? ¡Está en el jardín!
Un niño lanza la pelota a su hermano.
Una mujer monta en bicicleta junto al río.
Dos niñas con chaquetas rojas juegan en la nieve.
El señor mayor lee el periódico.
Un gato blanco y negro duerme en el sofá.
Tres amigos se sientan a una mesa de madera.
«Qué bonito», dice la mujer del sombrero.
Varios pájaros vuelan sobre el mar.
El coche rojo está aparcado delante del hotel.
Un ciclista baja por un sendero.
La gente espera el autobús bajo la lluvia.
El tren sale a las 10:30 de la estación.
La niña compra 2,5 kilos de manzanas.
Un caballo marrón está detrás de la valla.
El bebé sostiene una taza amarilla.
Un esquiador baja por la pista.
El equipo lleva camisetas azules.
Una cometa amarilla vuela en el cielo.
El pingüino camina sobre el hielo.
Unos niños juegan en el tobogán del parque.
Un hombre escala una pared de roca.
La barca está en la playa al amanecer.
Un grupo de personas posa para una foto.""",
    "ar": """كَلْبٌ يَجْري في الحَديقَةِ.
رجلٌ يقرأ الجريدة، وامرأةٌ تشرب الشاي.
طفلان يلعبان بالكرة على العشب.
هل القطة نائمة على الأريكة؟
امرأة تركب الدراجة بجانب النهر.
ثلاثة أصدقاء يجلسون حول طاولة خشبية.
سيارة حمراء أمام البيت.
الولد يقفز في الماء!
طيور كثيرة تطير فوق البحر.
رجل عجوز يرتدي قبعة سوداء.
فتاة صغيرة تحمل كوبًا أصفر.
حصان بني يقف خلف السياج.
الناس ينتظرون الحافلة تحت المطر.
قارب أبيض على الشاطئ.
لاعب يركل الكرة نحو المرمى.
يغادر القطار في الساعة ١٠:٣٠.
اشترت البنت ٣ تفاحات.
طائرة ورقية صفراء في السماء.
متزلج ينزل من الجبل.
مجموعة من الناس يلتقطون صورة؛ وهم يضحكون.
الأطفال يلعبون في الحديقة.
شجرة كبيرة بجوار المنزل.
رجل يتسلق جدارًا صخريًا.
القَمَرُ فَوقَ المَدينَةِ.""",
    "hi": """एक कुत्ता घास पर दौड़ रहा है।
दो लड़कियाँ लाल कपड़ों में खेल रही हैं।
बूढ़ा आदमी अख़बार पढ़ रहा है।
क्या बिल्ली सोफ़े पर सो रही है?
एक औरत नदी के किनारे साइकिल चला रही है।
तीन दोस्त लकड़ी की मेज़ पर बैठे हैं।
लड़का पानी में कूदता है!
समुद्र के ऊपर पक्षी उड़ रहे हैं।
लाल गाड़ी घर के सामने खड़ी है।
छोटी बच्ची के हाथ में पीला प्याला है।
भूरा घोड़ा बाड़ के पीछे खड़ा है।
लोग बारिश में बस का इंतज़ार कर रहे हैं।
ट्रेन १०:३० बजे स्टेशन से निकलती है।
लड़की ने 3 सेब ख़रीदे।
पीली पतंग आसमान में उड़ रही है।
खिलाड़ी गेंद को मारता है।
श्रीमान्‌ जी चश्मा पहने हुए हैं।
बच्चे पार्क में झूला झूल रहे हैं।
एक आदमी चट्टान पर चढ़ रहा है।
सफ़ेद नाव समुद्र तट पर है।
क्षेत्र में बहुत सारे पेड़ हैं।
कुछ लोग तस्वीर खिंचवा रहे हैं।
माँ अपने बच्चे को गोद में लिए हुए है।
शहर में सूरज डूब रहा है।""",
    "zh": """一只棕色的狗在草地上奔跑。
两个穿红色T恤的女孩在玩球。
一位老人坐在长椅上看报纸，旁边有一只猫。
孩子们在公园里滑滑梯！
一辆红色的汽车停在房子前面。
男孩跳进水里。
一个女人在河边骑自行车。
三个朋友围坐在木桌旁。
鸟儿在大海上空飞翔。
“你好！”戴帽子的男人说。
一匹棕色的马站在栅栏后面。
人们在雨中等公交车。
火车10:30从车站出发。
她买了３个苹果和2.5公斤橙子。
黄色的风筝在天空中飞。
一个男人在攀岩。
白色的小船停在沙滩上。
滑雪者从山上滑下来。
婴儿拿着一个黄色的杯子。
球员把足球踢向球门。
一群人在拍照；他们都在笑。
小女孩用iPhone拍照。
黑白相间的猫睡在沙发上。
夕阳照在城市的高楼上。""",
    "ja": """茶色の犬が草の上を走っています。
赤いTシャツを着た二人の女の子がボールで遊んでいる。
お年寄りの男性がベンチで新聞を読んでいます。
「こんにちは」と帽子の男が言った。
子どもたちが公園の滑り台で遊んでいます！
赤い車が家の前に停まっている。
男の子が水に飛び込みました。
女性が川沿いを自転車で走っています。
三人の友達が木のテーブルを囲んでいます。
鳥が海の上を飛んでいる。
コーヒーを飲みながら、パソコンを使う女性。
茶色の馬が柵の後ろに立っています。
人々が雨の中でバスを待っている。
電車は10:30に駅を出ます。
彼女は３個のリンゴを買いました。
黄色い凧が空を飛んでいます。
男性が岩を登っている。
白いボートが砂浜にあります。
スキーヤーが山を滑り降りてくる。
赤ちゃんが黄色いカップを持っています。
選手がサッカーボールを蹴る。
人々が写真を撮っています。
白黒の猫がソファーで眠っている。
時々、夕日が街を照らします。""",
}
CAPTIONS_BY_LANGUAGE = {code: text.splitlines() for code, text in CAPTIONS.items()}
