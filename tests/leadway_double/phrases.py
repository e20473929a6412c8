"""What people and agents say in the calls that the double makes up: English, Spanish, Portuguese, French."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    code: str
    phone: str
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    greeting: str
    wishes: tuple[tuple[str, str], ...]
    """What the caller says, and how a summary puts it."""
    booking: tuple[str, str, str]
    """The agent offers, the caller takes it, the appointment's title."""
    not_booked: str
    transfer: str
    closing: tuple[str, str]
    summary: str


LANGUAGES = {
    "en": Language(
        "en",
        "+1415555",
        ("Olivia", "James", "Maya", "Robert", "Grace", "Daniel"),
        ("Carter", "Nguyen", "O'Brien", "Patel", "Brooks", "Schmidt"),
        "Thanks for calling Brightside Dental, how can I help you today?",
        (
            ("Hi, I chipped a tooth and need somebody to look at it.", "has a chipped tooth"),
            ("I'd like to know what a cleaning costs.", "asked about the price of a cleaning"),
            ("Could you tell me if you take my insurance?", "asked whether the insurance is accepted"),
            ("I need to move my daughter's checkup.", "wants to move a checkup"),
        ),
        ("I have an opening at ten or at three, which works better?", "Three is great.", "Consultation"),
        "I am sorry, that time was just taken.",
        "Let me transfer you to a colleague right away.",
        ("Is there anything else?", "No, that's all, thank you."),
        "{name} called and {wish}. {outcome}",
    ),
    "es": Language(
        "es",
        "+52155555",
        ("Lucía", "Mateo", "Ximena", "Íñigo", "Sofía", "José Ángel"),
        ("Hernández", "Muñoz", "Peña", "García Núñez", "Ibáñez", "Treviño"),
        "¡Hola! Gracias por llamar a Clínica Sonrisa, ¿en qué le puedo ayudar?",
        (
            ("Buenas tardes, me duele una muela desde ayer.", "tiene dolor de muela desde ayer"),
            ("Quisiera saber cuánto cuesta una limpieza.", "preguntó el precio de una limpieza"),
            ("¿Aceptan mi seguro de gastos médicos?", "preguntó si se acepta su seguro"),
            ("Necesito cambiar la cita de mi mamá.", "quiere cambiar la cita de su mamá"),
        ),
        ("Tengo lugar a las diez o a las tres, ¿cuál prefiere?", "A las tres, por favor.", "Consulta de valoración"),
        "Disculpe, ese horario se acaba de ocupar.",
        "Permítame, le comunico con un compañero.",
        ("¿Le puedo ayudar en algo más?", "No, es todo, muchas gracias."),
        "{name} llamó y {wish}. {outcome}",
    ),
    "pt": Language(
        "pt",
        "+55119555",
        ("João", "Conceição", "Thaís", "Antônio"),
        ("Araújo", "Gonçalves", "Simões", "da Luz"),
        "Olá, obrigado por ligar para a Clínica Sorriso, como posso ajudar?",
        (
            ("Oi, quebrei um dente e preciso de ajuda.", "quebrou um dente"),
            ("Quanto custa uma limpeza?", "perguntou o preço de uma limpeza"),
        ),
        ("Tenho horário às dez ou às três, qual prefere?", "Às três está ótimo.", "Avaliação"),
        "Desculpe, esse horário acabou de ser ocupado.",
        "Um momento, vou transferir a ligação.",
        ("Posso ajudar em mais alguma coisa?", "Não, é só isso, obrigado."),
        "{name} ligou e {wish}. {outcome}",
    ),
    "fr": Language(
        "fr",
        "+3319900",
        ("Élodie", "François", "Chloé", "Gaël"),
        ("Lefèvre", "Dubois", "Noël", "d'Arcy"),
        "Bonjour, cabinet dentaire du Parc, que puis-je faire pour vous ?",
        (
            ("Bonjour, j'ai très mal à une dent.", "a très mal à une dent"),
            ("Je voudrais connaître le prix d'un détartrage.", "a demandé le prix d'un détartrage"),
        ),
        ("J'ai une place à dix heures ou à quinze heures.", "Quinze heures, c'est parfait.", "Première consultation"),
        "Désolé, cet horaire vient d'être pris.",
        "Ne quittez pas, je vous passe un collègue.",
        ("Autre chose ?", "Non, merci beaucoup."),
        "{name} a appelé : {wish}. {outcome}",
    ),
}
